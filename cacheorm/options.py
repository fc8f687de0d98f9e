"""The Meta options of a model, and the checks of their values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from .backends import BaseBackend, backend_from_url
from .deadlines import check_seconds
from .errors import did_you_mean
from .fields import CompositeKey
from .payload import LARGEST_VERSION
from .serializers import BaseSerializer, Zstd, registry
from .types import check_span, check_ttl, is_coroutine_function

__all__ = [
    "LEASE_SECONDS",
    "NOT_INHERITED",
    "RETRY_SECONDS",
    "Options",
    "check_on_invalid",
    "resolve_backend",
    "resolve_serializer",
]

NOT_INHERITED = ("name", "primary_key", "abstract")
"""The options that subclasses do not inherit."""

LEASE_SECONDS = 5
"""The default of ``lease``: longer than most database queries, and short enough to wait for after a crash."""

RETRY_SECONDS = 10
"""The default of ``retry_after``."""


class Options(NamedTuple):
    """The Meta options of a model, checked."""

    name: str | None = None
    namespace: str | None = None
    backend: BaseBackend | None = None
    serializer: BaseSerializer | None = None
    ttl: int | None = None
    ttl_jitter: float = 0.0
    on_invalid: str = "raise"
    accepts: tuple[BaseSerializer | Zstd, ...] = ()
    version: int | None = None
    upgrade: Callable[[int, dict[str, Any]], dict[str, Any]] | None = None
    version_in_key: bool = False
    compress: Zstd | None = None
    memory_limit: int | None = None
    loader: Callable[..., Any] | str | None = None
    aloader: Callable[..., Any] | str | None = None
    negative_ttl: int | None = None
    lease: int | None = LEASE_SECONDS
    max_loads: int | None = None
    refresh_after: int | None = None
    keep_stale: int | None = None
    retry_after: int | None = None
    loader_timeout: float | None = None
    primary_key: CompositeKey | None = None
    abstract: bool = False

    @classmethod
    def check(cls, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check the options of a Meta class; return them with URLs and names resolved, without those that are ``None``.

        Raises:
            TypeError: an unknown option, or one of the wrong type.
            ValueError: an option with an impossible value.
        """
        known = cls._fields
        for option in given:
            if option not in known:
                hint = did_you_mean(option, known, f"; known are: {', '.join(sorted(known))}")
                raise TypeError(f"{model}.Meta has no option {option!r}{hint}")
        checks: dict[str, Callable[[Any], Any]] = {
            "backend": resolve_backend,
            "serializer": resolve_serializer,
            "ttl": lambda ttl: None if ttl is None else check_ttl(ttl),
            "ttl_jitter": _check_jitter,
            "on_invalid": check_on_invalid,
            "accepts": _check_accepts,
            "version": _check_version,
            "upgrade": _check_upgrade,
            "version_in_key": _check_flag,
            "compress": _check_compress,
            "memory_limit": lambda limit: _check_count(limit, " of bytes"),
            "loader": _check_loader,
            "aloader": _check_loader,
            "negative_ttl": lambda ttl: check_span("it", ttl, "to remember no misses"),
            "lease": lambda seconds: check_span("it", seconds, "to take no leases"),
            "max_loads": lambda limit: _check_count(limit, ""),
            "refresh_after": lambda seconds: check_span("it", seconds, "to load no rows anew"),
            "keep_stale": lambda seconds: check_span("it", seconds, "to keep no rows past their ttl"),
            "retry_after": lambda seconds: check_span("it", seconds, f"for {RETRY_SECONDS} seconds"),
            "loader_timeout": _check_timeout,
            "name": _check_name,
            "namespace": _check_name,
            "primary_key": _check_primary_key,
            "abstract": _check_flag,
        }
        values = {}
        for option, value in given.items():
            try:
                checked = checks[option](value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{model}.Meta.{option}: {error}") from error
            if checked is not None or option not in ("backend", "serializer"):
                values[option] = checked
        return values

    def check_version(self, model: str) -> None:
        """Raise :exc:`ValueError` for an option that means nothing without ``version``."""
        if self.version is None:
            for option in ("upgrade", "version_in_key"):
                if getattr(self, option):
                    raise ValueError(f"{model}.Meta.{option} needs the version of the model: set Meta.version too")

    def check_loading(self, model: str) -> None:
        """Raise :exc:`ValueError` for an option about the age of rows that means nothing beside the others."""
        ages = ("refresh_after", "keep_stale", "retry_after", "loader_timeout")
        given = [option for option in ages if getattr(self, option) is not None]
        problem = ""
        if given and self.loader is None and self.aloader is None:
            problem = "it needs a Meta.loader or Meta.aloader, which loads the rows anew; without one, leave it None"
        elif self.refresh_after is not None and self.ttl and self.refresh_after >= self.ttl:
            problem = f"rows would be gone before they are due: it has to be less than the ttl, {self.ttl} seconds"
        elif self.keep_stale is not None and not self.ttl:
            given = ["keep_stale"]
            problem = "it begins when the ttl of a row has ended: set Meta.ttl too, to a number of seconds above 0"
        elif given == ["retry_after"]:
            problem = "it is for rows that are old already: set Meta.refresh_after or Meta.keep_stale too"
        elif self.loader_timeout is not None and self.keep_stale is None:
            given = ["loader_timeout"]
            problem = "there are rows to give in the meantime only with Meta.keep_stale: set that too"
        if problem:
            raise ValueError(f"{model}.Meta.{given[0]}: {problem}")

    @property
    def key_version(self) -> str:
        """The part of keys that tells versions apart; empty without ``version_in_key``."""
        return f"@{self.version}" if self.version_in_key else ""


def _check_flag(flag: bool) -> bool:
    if not isinstance(flag, bool):
        raise TypeError(f"expected True or False, got {type(flag).__name__}")
    return flag


def _check_jitter(jitter: Any) -> float:
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
        raise ValueError("expected a fraction from 0 to 1")
    return float(jitter)


def check_on_invalid(what: Any) -> str:
    """Return what to do with stored bytes that are no row; :exc:`ValueError` for anything else."""
    if what not in ("raise", "miss"):
        raise ValueError("expected 'raise' or 'miss'")
    return str(what)


def _check_accepts(accepts: Any) -> tuple[BaseSerializer | Zstd, ...]:
    if isinstance(accepts, (str, bytes, Zstd)) or not isinstance(accepts, Iterable):
        raise TypeError(f"expected a list of serializers or registered names, got {type(accepts).__name__}")
    found = [_accepted(given) for given in accepts]
    if None in found:
        raise TypeError("expected a list of serializers or registered names, got None in it")
    return tuple(accepted for accepted in found if accepted is not None)


def _accepted(given: Any) -> BaseSerializer | Zstd | None:
    """Return a serializer, or the compression, whose payloads a model reads."""
    if isinstance(given, Zstd) or (given == "zstd" and registry.get_by_name("zstd") is None):
        return _check_compress(given)
    return resolve_serializer(given)


def _check_version(version: Any) -> int | None:
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"expected a whole number, got {type(version).__name__}")
    if not 0 <= version <= LARGEST_VERSION:
        raise ValueError(f"expected a number from 0 to {LARGEST_VERSION}")
    return version


def _check_upgrade(upgrade: Any) -> Any:
    if upgrade is not None and not callable(upgrade):
        raise TypeError(f"expected a function of a version and a stored row, got {type(upgrade).__name__}")
    if is_coroutine_function(upgrade):
        raise TypeError("expected a function that returns the row, got a coroutine function")
    return upgrade


def _check_compress(compress: Any) -> Zstd | None:
    if compress is None or isinstance(compress, Zstd):
        return compress
    if compress == "zstd":
        return Zstd()
    if isinstance(compress, str):
        raise ValueError("the only compression is 'zstd', or co.Zstd(...) with options")
    raise TypeError(f"expected 'zstd', or co.Zstd(...) with options, got {type(compress).__name__}")


def _check_count(limit: Any, unit: str) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"expected a whole number{unit}, got {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"expected a number{unit}, at least 1")
    return limit


def _check_timeout(seconds: Any) -> float | None:
    if seconds is None:
        return None
    return check_seconds("it", seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)


def _check_loader(loader: Any) -> Any:
    # The static and class methods of Meta have been looked up on it.
    if loader is None or callable(loader) or (isinstance(loader, str) and loader.isidentifier()):
        return loader
    got = repr(loader) if isinstance(loader, str) else type(loader).__name__
    raise TypeError(f"expected a function of a list of primary keys, or the name of a class method, got {got}")


def _check_name(name: Any) -> str | None:
    if name is not None and (not isinstance(name, str) or not name):
        raise TypeError("expected a text that is not empty")
    return name


def _check_primary_key(key: Any) -> CompositeKey | None:
    if key is not None and not isinstance(key, CompositeKey):
        raise ValueError("required primary key: expected a CompositeKey, or a field with primary_key=True")
    return key


_backends_by_url: dict[str, BaseBackend] = {}
_lock = threading.RLock()


def resolve_backend(backend: BaseBackend | str | None) -> BaseBackend | None:
    """Return the backend for a Meta option; models that name the same URL share one backend.

    Raises:
        TypeError: neither a backend nor a URL.
        ValueError: a URL that no backend knows.
    """
    if isinstance(backend, str):
        with _lock:
            known = _backends_by_url.get(backend)
            if known is None:
                known = _backends_by_url[backend] = backend_from_url(backend)
            return known
    # Anything that behaves like a backend is accepted: wrappers count, trace and time calls.
    if backend is None or (not isinstance(backend, type) and all(hasattr(backend, name) for name in _BACKEND_METHODS)):
        return backend
    what = f"the class {backend.__name__}" if isinstance(backend, type) else type(backend).__name__
    raise TypeError(f"backend must be a backend instance or a URL, got {what}")


# Names that distinguish backends from the drivers' own clients, which do not have them.
_BACKEND_METHODS = ("get_many", "set_many", "get_chunks", "chunk_size")


def resolve_serializer(serializer: BaseSerializer | str | None) -> BaseSerializer | None:
    """Return the serializer for a Meta option.

    Raises:
        TypeError: neither a serializer nor a name.
        ValueError: a name that nothing is registered under.
    """
    if isinstance(serializer, str):
        found = registry.get_by_name(serializer)
        if found is None:
            known = ", ".join(registry.names())
            raise ValueError(f"no serializer is registered as {serializer!r}; registered are: {known}")
        return found
    if serializer is None or isinstance(serializer, BaseSerializer):
        return serializer
    raise TypeError(f"serializer must be a registered name or a BaseSerializer, got {type(serializer).__name__}")
