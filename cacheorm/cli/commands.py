"""The commands, and the parser of their arguments."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..metadata import RowPlan
from ..operations import ModelDelete, ModelQuery
from ..operations.presence import are_rows
from ..operations.shortcuts import ttl_left
from ..sync_driver import run
from .arguments import UsageError, backend_of, model_of, pks_of
from .explanation import explain
from .output import masked, plain, write_json, write_table, write_values

__all__ = ["parser"]

Options = argparse.Namespace

_EXIT_CODES = """exit codes:
  0  done; every row that was asked for is there
  1  a row is not there
  2  wrong arguments, a model that cannot be loaded, or stored bytes that are no row of it
  3  the backend failed
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; ``command`` of its result is the function to call with that result."""
    top = argparse.ArgumentParser(
        prog="cacheorm",
        description="Look at the rows of a model, and at the backend they are in.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"cacheorm {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Options], bool], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXIT_CODES)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.set_defaults(command=command)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    for name, command, text in (
        ("get", get, "show one row"),
        ("query", query, "show rows, in the order asked"),
        ("delete", delete, "remove rows"),
        ("ttl", ttl, "show how many seconds a row has left"),
        ("explain", explain_row, "show what is stored for a row: key, form, size and fields"),
    ):
        sub = add(name, command, text)
        sub.add_argument("--backend", metavar="URL", help="where the rows are, instead of the model's own backend")
        sub.add_argument("model", metavar="package.module:Model", help="as seen from the current directory")
        sub.add_argument(
            "pk",
            nargs="+",
            help="the primary key: a value for each of its fields, in their order, or field=value"
            + ("; any number of keys; - reads them from standard input, one to a line" if name in _MANY else ""),
        )
    for name, command, text in (
        ("ping", ping, "ask whether a backend answers"),
        ("stats", stats, "show the figures of a backend"),
    ):
        sub = add(name, command, text)
        sub.add_argument("backend", metavar="URL", help="of a backend; or package.module:Model, for that of a model")
    return top


_MANY = ("query", "delete")


def _one_pk(options: Options) -> tuple[RowPlan, dict[str, Any]]:
    plan = model_of(options.model, options.backend)._meta
    pks = pks_of(plan, options.pk)
    if len(pks) != 1:
        raise UsageError(f"one row is asked for, got {len(pks)} primary keys")
    return plan, pks[0]


def _many_pks(options: Options) -> tuple[RowPlan, list[dict[str, Any]]]:
    plan = model_of(options.model, options.backend)._meta
    return plan, pks_of(plan, options.pk)


def get(options: Options) -> bool:
    """Show one row."""
    plan, pk = _one_pk(options)
    query: ModelQuery[Any] = ModelQuery(plan, [pk], False)
    row = query.cached_only().execute()
    values = None if row is None else masked(plan, row)
    if options.json:
        write_json(values)
    elif values is None:
        write_values({plan.key_of(pk): "not found"})
    else:
        write_values(values)
    return row is not None


def query(options: Options) -> bool:
    """Show rows."""
    plan, pks = _many_pks(options)
    operation: ModelQuery[list[Any]] = ModelQuery(plan, pks, True)
    rows = operation.cached_only().execute()
    found = [None if row is None else masked(plan, row) for row in rows]
    if options.json:
        write_json(found)
    else:
        missing = [(plan.key_of(pk), "not found") for pk, row in zip(pks, found, strict=True) if row is None]
        if len(missing) < len(found):
            write_table(list(plan.fields), [list(row.values()) for row in found if row is not None])
        write_values(dict(missing))
    return None not in found


def delete(options: Options) -> bool:
    """Remove rows."""
    plan, pks = _many_pks(options)
    identified, keys = plan.identity.identify(pks, True)
    payloads = plan.backend.get_many(*keys)
    outcome = dict(zip(keys, are_rows(plan, identified, keys, payloads), strict=True))
    operation: ModelDelete[bool] = ModelDelete(plan, pks, True)
    operation.execute()
    if options.json:
        write_json(outcome)
    else:
        write_values({key: "deleted" if existed else "not found" for key, existed in outcome.items()})
    return all(outcome.values())


def ttl(options: Options) -> bool:
    """Show the lifetime that a row has left."""
    plan, pk = _one_pk(options)
    key = plan.key_of(pk)
    left = run(ttl_left(plan, pk))
    if options.json:
        write_json({"key": key, "ttl": left})
    else:
        write_values({key: "not found" if left is None else f"{left} s" if left else "never expires"})
    return left is not None


def explain_row(options: Options) -> bool:
    """Show what is stored for a row."""
    plan, pk = _one_pk(options)
    report = explain(plan, pk)
    if options.json:
        write_json(report)
    else:
        write_values({name.replace("_", " "): value for name, value in report.items() if name != "fields"})
        if report["fields"] is not None:
            lines = [(name, type(plan.fields[name]).__name__, value) for name, value in report["fields"].items()]
            write_table(["field", "type", "value"], lines)
    if report["problem"]:
        raise UsageError(report["problem"])
    return report["fields"] is not None


def ping(options: Options) -> bool:
    """Ask whether a backend answers."""
    with backend_of(options.backend) as backend:
        backend.ping()  # connecting is not what is measured
        start = time.perf_counter()
        backend.ping()
        taken = round(1000 * (time.perf_counter() - start), 3)
    if options.json:
        write_json({"backend": _shown(options.backend), "milliseconds": taken})
    else:
        write_values({_shown(options.backend): f"answers in {taken} ms"})
    return True


def stats(options: Options) -> bool:
    """Show the figures of a backend."""
    with backend_of(options.backend) as backend:
        figures = {name: plain(figure) for name, figure in backend.stats().items()}
    if options.json:
        write_json(figures)
    else:
        write_values(figures)
    return True


def _shown(reference: str) -> str:
    """Return the URL of a backend without user, password and options, which may be secret."""
    bare = reference.partition("?")[0]
    return bare if bare.startswith("file:") else re.sub(r"//.*@", "//***@", bare)
