"""The command as a user runs it, against real servers: in a process of its own where that is what a test is about."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from lifetimes import left_of
from measuring import measured

import cacheorm as co
from cacheorm.cli import main
from cacheorm.payload import ABSENT, LEASE

ROOT = Path(__file__).resolve().parents[2]

APP = """
import datetime, decimal, enum, os, uuid
import cacheorm as co

print("noise of a module that is imported")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Base(co.Model):
    class Meta:
        abstract = True
        backend = os.environ["APP_BACKEND"]
        ttl = 1000


class User(Base):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    password = co.StringField(secret=True, null=True)


class Loaded(Base):
    id = co.IntegerField(primary_key=True)

    class Meta:
        @staticmethod
        def loader(pks):
            return {pk: {} for pk in pks}


class Visit(Base):
    user = co.ForeignKeyField(User)
    day = co.DateField()
    note = co.StringField(default="")

    class Meta:
        primary_key = co.CompositeKey("user", "day")


class Packed(Base):
    id = co.IntegerField(primary_key=True)
    text = co.StringField()

    class Meta:
        serializer = co.PickleSerializer(secret="s3cr3t of the pickles")
        compress = "zstd"
        version = 7


class Point:
    def __init__(self, x):
        self.x = x


class Everything(Base):
    id = co.UUIDField(primary_key=True)
    short = co.ShortUUIDField(default=uuid.UUID(int=5))
    integer = co.IntegerField(default=2**70)
    color = co.EnumField(Color, default=Color.BLUE)
    boolean = co.BooleanField(default=True)
    real = co.FloatField(default=1.5, allow_nan=True)
    exact = co.DecimalField(default=decimal.Decimal("1.50000"))
    text = co.StringField(default='"\\u65e5\\u672c"\\n\\x1b[31m')
    binary = co.BinaryField(default=b"\\x00\\xff")
    raw = co.BinaryField(ensure_str=False, default=b"\\x00\\xff")
    naive = co.DateTimeField(default=datetime.datetime(2024, 1, 2, 3, 4, 5))
    date = co.DateField(default=datetime.date(2024, 1, 2))
    time = co.TimeField(default=datetime.time(3, 4, 5))
    aware = co.DateTimeTZField(default=datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc))
    stamp = co.TimestampField(utc=True, default=datetime.datetime(2024, 1, 2))
    struct = co.StructField(lambda point: [point.x], lambda stored: Point(stored[0]), default=lambda: Point(3))
    document = co.JSONField(default={"a": [1, None, {"b": 2.5}]})
    items = co.ListField(co.DateField(), default=[datetime.date(2024, 1, 2)])
    author = co.ForeignKeyField(User, default=1)
    nothing = co.StringField(null=True)


def keyed(field, name):
    return type(co.Model)(name, (Base,), {"id": field, "__module__": __name__, "__qualname__": name})


Colors = keyed(co.EnumField(Color, primary_key=True), "Colors")
Flags = keyed(co.BooleanField(primary_key=True), "Flags")
Moments = keyed(co.DateTimeTZField(primary_key=True), "Moments")
Names = keyed(co.StringField(primary_key=True), "Names")
Numbers = keyed(co.FloatField(primary_key=True), "Numbers")
number = 5
"""


class Captured(io.TextIOWrapper):
    """A stream of text that is kept."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", write_through=True)

    def text(self) -> str:
        return self.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]


class App:
    """A folder with the module ``shop.models`` in it, and its models here."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        (folder / "shop").mkdir()
        path = folder / "shop" / "models.py"
        path.write_text(APP)
        spec = importlib.util.spec_from_file_location("shop.models", path)
        assert spec is not None
        assert spec.loader is not None
        self.models: Any = importlib.util.module_from_spec(spec)
        sys.modules["shop.models"] = self.models
        spec.loader.exec_module(self.models)
        self.backend: co.BaseBackend = self.models.User._meta.backend
        self.backend.clear(everything=True)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, **measured(), "PYTHONPATH": paths, "APP_BACKEND": self.url}
        environment |= options.pop("env", {})
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, "-W", "error", "-m", "cacheorm", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, encoding="utf-8", **pipes)

    def run(self, *arguments: str, typed: str = "", code: int = 0) -> str:
        """Run the command here, expect an exit code, and give its output; that of errors where it is to fail."""
        with self._as_at_the_start(), contextlib.chdir(self.folder):
            output, errors = Captured(), Captured()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "stdin", io.StringIO(typed))
                patch.setattr(sys, "stdout", output)
                patch.setattr(sys, "stderr", errors)
                patch.setattr(sys, "argv", ["cacheorm"])
                try:
                    ended = main(arguments)
                except SystemExit as end:  # argparse's
                    ended = int(end.code or 0)
        return self._checked(ended, output.text(), errors.text(), code)

    def run_alone(self, *arguments: str, typed: str = "", code: int = 0, **options: Any) -> str:
        """Likewise in a process of its own."""
        process = self.start(*arguments, **options)
        output, errors = process.communicate(typed)
        return self._checked(process.returncode, output, errors, code)

    def _checked(self, ended: int, output: str, errors: str, code: int) -> str:
        assert ended == code, (ended, output, errors)
        assert "Traceback" not in errors
        return errors if code > 1 else output

    @contextlib.contextmanager
    def _as_at_the_start(self) -> Iterator[None]:
        """Hide the modules of the folder, which the command is to import itself, and forget what it has imported."""
        before, path = {**sys.modules}, [*sys.path]
        sys.modules.pop("shop.models", None)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path[:] = path
            used = sys.modules.pop("shop.models", None)
            if used is not None:
                used.User._meta.backend.close()
            for name in ("shop", "broken", "leaving"):
                sys.modules.pop(name, None)
            sys.modules["shop.models"] = before["shop.models"]

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))

    def json_alone(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run_alone(*arguments, "--json", code=code))


@pytest.fixture(params=["file", "redis", "memcached"])
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The application on each backend that several processes share."""
    if request.param == "file":
        url = f"file://{tmp_path}/cache"
    else:
        url = request.getfixturevalue(f"{request.param}_server").url
    yield from an_app(tmp_path, url, monkeypatch)


@pytest.fixture
def file_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The application on a file, for what does not depend on the backend."""
    yield from an_app(tmp_path, f"file://{tmp_path}/cache", monkeypatch)


def an_app(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setenv("APP_BACKEND", url)
    made = App(folder, url)
    yield made
    made.backend.close()
    del sys.modules["shop.models"]


# -- the commands ----------------------------------------------------------------------------------------


def test_get_shows_one_row(app: App) -> None:
    app.models.User.create(id=7, name="Sam", password="hunter2")
    assert app.run_alone("get", "shop.models:User", "7").split("\n") == [
        "id        7",
        "name      Sam",
        "password  ***",
        "",
    ]
    assert app.json_alone("get", "shop.models:User", "id=7") == {"id": 7, "name": "Sam", "password": "***"}
    assert app.run_alone("get", "shop.models:User", "8", code=1) == "m:user:id:8  not found\n"
    assert app.json_alone("get", "shop.models:User", "8", code=1) is None


def test_query_shows_rows_in_the_order_asked(app: App) -> None:
    app.models.User.insert_many({"id": number, "name": f"user {number}"} for number in range(5)).execute()
    assert [row["name"] for row in app.json("query", "shop.models:User", "3", "1")] == ["user 3", "user 1"]
    found = app.json("query", "shop.models:User", "3", "9", "1", code=1)
    assert [row and row["id"] for row in found] == [3, None, 1]
    lines = app.run("query", "shop.models:User", "3", "9", "1", code=1).splitlines()
    assert lines == [
        "id  name    password",
        "--  ------  --------",
        "3   user 3  -",
        "1   user 1  -",
        "m:user:id:9  not found",
    ]
    given = app.run("query", "shop.models:User", "-", "--json", typed="2\n4\n\n")
    assert [row["id"] for row in json.loads(given)] == [2, 4]
    assert app.run("query", "shop.models:User", "-") == ""


def test_the_cache_alone_is_asked(file_app: App) -> None:
    assert file_app.run("get", "shop.models:Loaded", "8", code=1) == "m:loaded:id:8  not found\n"
    assert file_app.json("query", "shop.models:Loaded", "8", "9", code=1) == [None, None]
    assert file_app.models.Loaded.get(id=8).id == 8


def test_delete_removes_rows(app: App) -> None:
    app.models.User.insert_many({"id": number, "name": "x"} for number in range(3)).execute()
    assert app.run("delete", "shop.models:User", "0") == "m:user:id:0  deleted\n"
    assert app.json("delete", "shop.models:User", "0", "1", code=1) == {"m:user:id:0": False, "m:user:id:1": True}
    assert [app.models.User.exists(id=number) for number in range(3)] == [False, False, True]


def test_ttl_shows_what_is_left(app: App) -> None:
    user = app.models.User
    user.create(id=1, name="x")
    user.insert(id=2, name="x").ttl(0).execute()
    app.backend.set(user.key(id=3), ABSENT)
    left = app.json("ttl", "shop.models:User", "1")
    assert left["key"] == "m:user:id:1"
    assert left["ttl"] in left_of(1000)
    assert app.run("ttl", "shop.models:User", "1").endswith(" s\n")
    assert app.run("ttl", "shop.models:User", "2") == "m:user:id:2  never expires\n"
    assert app.json("ttl", "shop.models:User", "2")["ttl"] == 0
    for absent in ("3", "4"):
        assert app.json("ttl", "shop.models:User", absent, code=1)["ttl"] is None
        assert app.run("ttl", "shop.models:User", absent, code=1).endswith("not found\n")


def test_explain_shows_what_is_stored(app: App) -> None:
    app.models.User.create(id=1, name="Sam", password="hunter2")
    told = app.json("explain", "shop.models:User", "1")
    assert told.pop("ttl") in left_of(1000)
    assert told == {
        "key": "m:user:id:1",
        "backend": type(app.backend).__name__,
        "form": "bare",
        "serializer": "msgpack",
        "version": None,
        "compressed": False,
        "signed": False,
        "stored_bytes": 27,
        "packed_bytes": 27,
        "fields": {"id": 1, "name": "Sam", "password": "***"},
        "problem": None,
    }
    table = app.run("explain", "shop.models:User", "1")
    assert "StringField   Sam" in table
    assert "hunter2" not in table


def test_explain_shows_headers_compression_and_signatures(app: App) -> None:
    app.models.Packed.create(id=1, text="x" * 5000)
    told = app.json("explain", "shop.models:Packed", "1")
    assert told["form"] == "with a header"
    assert (told["serializer"], told["version"], told["compressed"], told["signed"]) == ("pickle", 7, True, True)
    assert told["stored_bytes"] < 200
    assert told["packed_bytes"] > 5000
    assert told["fields"]["text"] == "x" * 5000
    assert "x" * 57 + "...\n" in app.run("explain", "shop.models:Packed", "1")


@pytest.mark.parametrize(
    ("payload", "form"),
    [
        (None, None),
        (ABSENT, "a remembered miss: there is no such row"),
        (LEASE + b"somebody", "a lease: the row is being loaded"),
        (LEASE, "a lease that was given up"),
    ],
)
def test_explain_tells_why_there_is_no_row(file_app: App, payload: bytes | None, form: str | None) -> None:
    if payload is not None:
        file_app.backend.set("m:user:id:1", payload)
    told = file_app.json("explain", "shop.models:User", "1", code=1)
    assert told["form"] == form
    assert told["stored_bytes"] == (None if payload is None else len(payload))
    assert told["fields"] is None


@pytest.mark.parametrize(
    ("model", "payload", "words"),
    [
        ("User", b"\x93\x01\x02\x03", "expected a map of fields"),
        ("User", b"\x81\xa4name\x05", "User.name"),
        ("User", b"\xc1\x01", "cut off"),
        ("Packed", b"\x80\x05N.", "not signed"),
        ("Packed", b"\xc1\x01\x0c\x06pickle\x00\x00\x00\x07" + 40 * b"x", "signature is wrong"),
        ("Packed", b"\xc1\x01\x0e\x06pickle\x00\x00\x00\x07" + 40 * b"x", "cannot be decompressed"),
    ],
)
def test_what_cannot_be_read_is_explained(file_app: App, model: str, payload: bytes, words: str) -> None:
    file_app.backend.set(f"m:{model.lower()}:id:1", payload)
    process = file_app.start("explain", f"shop.models:{model}", "1", "--json")
    output, errors = process.communicate()
    assert process.returncode == 2
    assert words in json.loads(output)["problem"]
    assert words in errors
    assert "Traceback" not in errors
    assert "s3cr3t" not in output + errors
    file_app.run("get", f"shop.models:{model}", "1", code=2)


def test_ping_and_stats_ask_a_backend(app: App) -> None:
    app.models.User.create(id=1, name="x")
    assert app.json("ping", app.url)["milliseconds"] >= 0
    assert "answers in" in app.run("ping", "shop.models:User")
    assert app.json("stats", app.url)["entries"] >= 1
    assert "entries" in app.run("stats", "shop.models:User")


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["1", "2024-01-02"], ["user=1", "day=2024-01-02"], ["day=2024-01-02", "user_id=1"]], ids=" ".join
)
def test_composite_keys_are_several_words(file_app: App, words: list[str]) -> None:
    file_app.models.Visit.create(user=1, day="2024-01-02", note="rain")
    assert file_app.json("get", "shop.models:Visit", *words) == {"user": 1, "day": "2024-01-02", "note": "rain"}


def test_several_composite_keys_follow_one_another(file_app: App) -> None:
    file_app.models.Visit.create(user=1, day="2024-01-02", note="rain")
    for words in (["1", "2024-01-02", "2", "2024-01-02"], ["user=1", "day=2024-01-02", "day=2024-01-02", "user=2"]):
        found = file_app.json("query", "shop.models:Visit", *words, code=1)
        assert [row and row["note"] for row in found] == ["rain", None]
    assert "rain" in file_app.run("query", "shop.models:Visit", "-", typed="1 2024-01-02\n")


@pytest.mark.parametrize(
    ("model", "value", "words"),
    [
        ("Colors", lambda models: models.Color.BLUE, ["2", "BLUE", "id=2"]),
        ("Flags", lambda models: True, ["true", "1"]),
        (
            "Moments",
            lambda models: models.datetime.datetime(2024, 1, 2, tzinfo=models.datetime.UTC),
            ["2024-01-02T00:00:00+00:00", "2024-01-02 01:00:00+01:00"],
        ),
        ("Names", lambda models: "id=x y", ["id=id=x y"]),
        ("Names", lambda models: "7", ["7"]),
        ("Names", lambda models: "a=b", ["a=b"]),
        ("Numbers", lambda models: -1.5, ["-1.5"]),
    ],
)
def test_words_become_what_the_key_is(file_app: App, model: str, value: Callable[[Any], Any], words: list[str]) -> None:
    getattr(file_app.models, model).create(id=value(file_app.models))
    for word in words:
        file_app.json("get", f"shop.models:{model}", word)


def test_a_uuid_may_be_written_in_any_of_its_forms(file_app: App) -> None:
    pk = "0123456789abcdef0123456789abcdef"
    file_app.models.User.create(id=1, name="Sam")
    file_app.models.Everything.create(id=pk)
    for word in (pk, "01234567-89ab-cdef-0123-456789abcdef"):
        row = file_app.json("get", "shop.models:Everything", word)
    assert row == {
        "id": "01234567-89ab-cdef-0123-456789abcdef",
        "short": "00000000-0000-0000-0000-000000000005",
        "integer": 2**70,
        "color": 2,
        "boolean": True,
        "real": 1.5,
        "exact": "1.50000",
        "text": '"日本"\n\x1b[31m',
        "binary": "AP8=",
        "raw": "AP8=",
        "naive": "2024-01-02T03:04:05",
        "date": "2024-01-02",
        "time": "03:04:05",
        "aware": "2024-01-02T00:00:00+00:00",
        "stamp": "2024-01-02T00:00:00",
        "struct": [3],
        "document": {"a": [1, None, {"b": 2.5}]},
        "items": ["2024-01-02"],
        "author": 1,
        "nothing": None,
    }
    assert file_app.json("explain", "shop.models:Everything", pk)["fields"] == row
    table = file_app.run("get", "shop.models:Everything", pk)
    assert '"日本"\\n\\x1b[31m' in table


@pytest.mark.parametrize(("given", "shown"), [("nan", "nan"), ("inf", "inf"), ("-inf", "-inf")])
def test_numbers_that_json_has_not_are_text(file_app: App, given: str, shown: str) -> None:
    file_app.models.Everything.create(id=1 * "0" * 32, real=float(given))
    text = file_app.run("get", "shop.models:Everything", "0" * 32, "--json")
    assert json.loads(text, parse_constant=pytest.fail)["real"] == shown


def test_a_terminal_without_unicode_gets_what_it_can_show(file_app: App) -> None:
    file_app.models.User.create(id=1, name="日本")
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "\\u65e5\\u672c" in file_app.run_alone("get", "shop.models:User", "1", env=env)
    assert json.loads(file_app.run_alone("get", "shop.models:User", "1", "--json", env=env))["name"] == "日本"


# -- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["fetch"], "invalid choice: 'fetch'"),
        (["get", "shop.models:User"], "required: pk"),
        (["get", "shop.models", "1"], "package.module:Model, got 'shop.models'"),
        (["get", "shop.models:", "1"], "package.module:Model, got 'shop.models:'"),
        (["get", "shop.modles:User", "1"], "cannot import shop.modles: ModuleNotFoundError"),
        (["get", "broken:User", "1"], "cannot import broken: ZeroDivisionError: division by zero"),
        (["get", "leaving:User", "1"], "cannot import leaving: SystemExit"),
        (["get", "shop.models:Usr", "1"], "shop.models has no 'Usr'; it has: User"),
        (["get", "shop.models:number", "1"], "shop.models:number is no model with rows, but int"),
        (["get", "shop.models:Base", "1"], "an abstract model"),
        (["get", "shop.models:User", "one"], "User.id: expected an integer"),
        (["get", "shop.models:User", "1", "2"], "one row is asked for, got 2 primary keys"),
        (["get", "shop.models:User", "-"], "one row is asked for, got 0 primary keys"),
        (["get", "shop.models:Visit", "1"], "the primary key of Visit is user, day"),
        (["query", "shop.models:Visit", "1", "2024-01-02", "1"], "the primary key of Visit is user, day"),
        (["get", "shop.models:Visit", "user=1", "2024-01-02"], "each as field=value"),
        (["get", "shop.models:Visit", "user=1", "user_id=1"], "given twice"),
        (["get", "shop.models:User", "1", "--backend", "nosuch://host"], "unknown scheme 'nosuch'"),
        (["ping", "nosuch://host"], "unknown scheme 'nosuch'"),
        (["stats", "memory://?threshold=0"], "threshold of the memory:// URL must be a whole number from 1"),
        (["ping", "shop.models:number"], "is no model with rows"),
    ],
)
def test_wrong_use_is_explained_in_a_line(file_app: App, arguments: list[str], words: str) -> None:
    (file_app.folder / "broken.py").write_text("1 / 0")
    (file_app.folder / "leaving.py").write_text("raise SystemExit(0)")
    assert words in file_app.run(*arguments, code=2)


def test_a_backend_that_fails_is_told_without_its_password(file_app: App) -> None:
    for url in ("redis://sam:hunter2@127.0.0.1:1/0", "redis://127.0.0.1:1?password=hunter2"):
        for arguments in (["ping", url], ["stats", url], ["get", "shop.models:User", "1", "--backend", url]):
            errors = file_app.run(*arguments, code=3)
            assert "127.0.0.1:1" in errors
            assert "hunter2" not in errors


def test_a_password_in_a_url_is_not_shown(file_app: App, tmp_path: Path) -> None:
    from servers import RedisServer

    with RedisServer("--requirepass", "hunter2@home") as server:
        for place in (f":hunter2%40home@127.0.0.1:{server.port}", f"127.0.0.1:{server.port}/0?password=hunter2%40home"):
            for arguments in (["ping"], ["stats"], ["ping", "--json"]):
                output = file_app.run(*arguments, f"redis://{place}")
                assert "hunter2" not in output
        wrong = file_app.run_alone("ping", f"redis://:hunter3@127.0.0.1:{server.port}", code=3)
        assert "hunter3" not in wrong


def test_rows_can_be_looked_for_elsewhere(file_app: App, redis_backend: Any, redis_server: Any) -> None:
    with co.bind([file_app.models.User], backend=redis_backend):
        file_app.models.User.create(id=1, name="in Redis")
    found = file_app.json("get", "shop.models:User", "1", "--backend", redis_server.url)
    assert found["name"] == "in Redis"
    file_app.run("get", "shop.models:User", "1", code=1)


def test_a_model_in_memory_has_no_rows_here_and_says_so(file_app: App) -> None:
    process = file_app.start("get", "shop.models:User", "1", "--backend", "memory://")
    errors = process.communicate()[1]
    assert process.returncode == 1
    assert "keeps its rows in the memory of each process" in errors


def test_a_reader_that_goes_away_ends_the_command_quietly(file_app: App) -> None:
    file_app.models.User.insert_many({"id": number, "name": "x" * 50} for number in range(5000)).execute()
    with file_app.start("query", "shop.models:User", *map(str, range(5000))) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert "BrokenPipe" not in errors
    assert "Traceback" not in errors


def test_ctrl_c_ends_the_command_quietly(file_app: App) -> None:
    def interruptible() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with file_app.start("query", "shop.models:User", "-", preexec_fn=interruptible) as process:
        assert process.stderr is not None
        # What the module printed has gone to the errors: it is imported, and standard input is being read.
        assert "noise" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    # An import that is interrupted leaves a file to the collector, of which -W error tells.
    told = re.sub(
        r"Exception ignored in: [^\n]*\n.*?ResourceWarning: unclosed file [^\n]*\n", "", errors, flags=re.DOTALL
    )
    assert "Traceback" not in told


@pytest.mark.no_cover
def test_many_rows_are_shown(file_app: App) -> None:
    count = 20_000
    file_app.models.User.insert_many({"id": number, "name": "x"} for number in range(count)).execute()
    found = file_app.run_alone("query", "shop.models:User", "-", "--json", typed="\n".join(map(str, range(count))))
    assert [row["id"] for row in json.loads(found)] == list(range(count))


def test_the_command_of_the_distribution_is_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert EntryPoint("cacheorm", project["scripts"]["cacheorm"], "console_scripts").load() is main


def test_help_shows_the_commands_and_the_exit_codes(file_app: App) -> None:
    text = file_app.run_alone("--help")
    for word in ("get", "query", "delete", "ttl", "explain", "ping", "stats", "exit codes"):
        assert word in text
    assert "field=value" in file_app.run_alone("get", "--help")
    assert "invalid choice: 'fetch'" in file_app.run_alone("fetch", code=2)
    assert "cannot import shop.modles" in file_app.run_alone("get", "shop.modles:User", "1", code=2)
    assert file_app.run_alone("--version") == f"cacheorm {co.__version__}\n"
