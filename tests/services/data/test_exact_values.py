"""Values of every type survive the audit log, undo, export and import, as the database itself shows them, without dbctl."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dbctl.engines.sql import ident
from dbctl.services.audit import AuditLog
from tests import servers
from tests.conformance import values
from tests.databases import empty_database, from_url

KINDS = {"postgresql": values.POSTGRESQL, "mysql": values.MYSQL, "sqlite": values.SQLITE}


class Table:
    """A database with the table ``kinds``."""

    def __init__(self, database):
        self.database, self.kinds = database, KINDS[database.engine]
        columns = ", ".join(f"{self.quote(name)} {kind.type}" for name, kind in self.kinds.items())
        if database.engine == "postgresql":
            database.run(values.POSTGRESQL_SCHEMA)
        self.run(f"create table kinds (n integer primary key, {columns})")

    def quote(self, name):
        return f"`{name}`" if self.database.engine == "mysql" else ident(name)

    def run(self, *statements):
        if self.database.engine == "mysql":
            statements = ["set session sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'", *statements]
        self.database.run(*statements)

    def fill(self, rows):
        statements = [f"insert into kinds values ({n}, {', '.join(row)})" for n, row in enumerate(rows)]
        self.run("delete from kinds", *statements)

    def read(self):
        """Return what is stored, as the server or the library writes it."""
        if self.database.engine == "postgresql":
            with (
                closing(servers.connection(self.database.own)) as connection,
                connection.cursor() as cursor,
                cursor.copy("copy (select * from kinds order by n) to stdout") as copy,
            ):
                return [line.split(b"\t") for line in b"".join(map(bytes, copy)).splitlines()]
        read = (
            "hex(cast({0} as binary)), {0} is null"
            if self.database.engine == "mysql"
            else "hex({0}), typeof({0}), case when typeof({0}) = 'real' then quote({0}) end"
        )
        columns = ", ".join(read.format(self.quote(name)) for name in ("n", *self.kinds))
        return self.database.rows(f"select {columns} from kinds order by n")


@pytest.fixture(scope="module", params=KINDS)
def table(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    with empty_database(request.param, folder / "app.db") as database:
        (folder / "dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        yield Table(database), folder


@pytest.fixture
def kinds(table, monkeypatch, tmp_path):
    monkeypatch.chdir(table[1])
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return table[0]


@pytest.fixture
def find_newest(answer):
    return lambda: str(answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"])


def list_differences(rows, expected):
    assert len(rows) == len(expected)
    pairs = zip(rows, expected, strict=True)
    return [pair for row, other in pairs for pair in zip(row, other, strict=True) if pair[0] != pair[1]]


def draw(kinds, test):
    """Run a test with generated rows."""
    limited = settings(
        max_examples=3,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    limited(given(values.draw_rows(kinds.kinds))(test))()


def test_undo_restores_deleted_and_changed_rows(kinds, answer, find_newest):
    def check(rows):
        kinds.fill(rows)
        before = kinds.read()
        answer("data", "delete", "kinds", "--filter", "n>=0", "--limit", "1000", "--yes")
        assert kinds.read() == []
        answer("undo", find_newest(), "--yes")
        assert list_differences(kinds.read(), before) == []
        nulls = [word for name in kinds.kinds for word in ("--null", name)]
        answer("data", "set", "kinds", "--filter", "n>=0", "--limit", "1000", *nulls, "--yes")
        if kinds.read() != before:
            answer("undo", find_newest(), "--yes")
        assert list_differences(kinds.read(), before) == []
        answer("audit", "verify")

    draw(kinds, check)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_export_and_import_keep_every_value(kinds, answer, form):
    def check(rows):
        kinds.fill(rows)
        before = kinds.read()
        Path(f"rows.{form}").unlink(missing_ok=True)
        answer("data", "export", "kinds", f"rows.{form}")
        kinds.run("delete from kinds")
        answer("data", "import", "kinds", f"rows.{form}")
        assert list_differences(kinds.read(), before) == []

    draw(kinds, check)


BALANCES = {
    "postgresql": ("numeric(36,18)", "123456789012345678.123456789012345678", "123456789012345679.5"),
    "mysql": ("decimal(36,18)", "99999999999999.990000000000000001", "99999999999999.99"),
    "sqlite": ("real", "-0.0", "2.5"),
}


@pytest.fixture
def balances(kinds):
    """Create a table with one number; return how to read it, and a later value that a rounding reader takes for the new one."""
    declared, number, later = BALANCES[kinds.database.engine]
    kinds.run(
        "drop table if exists balances",
        f"create table balances (id integer primary key, amount {declared})",
        f"insert into balances values (1, {number})",
    )
    text = "quote(amount)" if kinds.database.engine == "sqlite" else "cast(amount as char(60))"
    return lambda: str(kinds.database.rows(f"select {text} from balances")[0][0]).strip(), later


def test_undo_restores_every_digit_and_sees_a_later_change_of_one(kinds, balances, answer, find_newest):
    read, later = balances
    before = read()
    answer("data", "set", "balances", "1", f"amount={later}")
    answer("undo", find_newest(), "--yes")
    assert read() == before
    answer("data", "delete", "balances", "1", "--yes")
    answer("undo", find_newest(), "--yes")
    assert read() == before
    if kinds.database.engine == "sqlite":
        return
    answer(
        "data",
        "set",
        "balances",
        "1",
        "amount=123456789012345678.5"
        if "postgresql" in kinds.database.engine
        else "amount=9.000000000000000001",
    )
    changed = "123456789012345679.5" if "postgresql" in kinds.database.engine else "9.000000000000000002"
    kinds.run(f"update balances set amount = {changed}")
    assert answer("undo", find_newest(), "--yes", status=6)["error"]["code"] == "undo-conflict"
    assert read().rstrip("0") == changed


def test_operation_with_rounded_numbers_of_an_older_version_is_refused(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url("app.db")
    database.run("create table sums (id integer primary key, sum real)")
    (tmp_path / "dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "app.db"\n')
    change = {"database": "main", "table": "sums", "rows": 1}
    image = {"key": {"id": 1}, "before": {"id": 1, "sum": 1.2345678901234568e17}}
    intent = {"kind": "intent", "operation": 0, "app": "a", "command": "data delete", "databases": ["main"]}
    log = AuditLog(tmp_path / "state", read_anchor=lambda: None)
    first = log.append({**intent, "changes": [{**change, "images": [image]}]}, sync=False)
    log.append(
        {"kind": "outcome", "operation": first.sequence, "databases": ["main"], "result": "committed"},
        sync=False,
    )
    error = answer("undo", str(first.sequence), "--yes", status=6)["error"]
    assert (error["code"], "rounded numbers of sums: sum" in error["message"]) == ("undo-impossible", True)
    assert database.rows("select * from sums") == []


@pytest.mark.parametrize("words", [["set", "ranges", "1"], ["add", "ranges"]])
def test_every_type_is_accepted_as_text(kinds, answer, words):
    if kinds.database.engine == "postgresql":
        declared, texts = "r int4range, i interval, n numeric[]", ["r=[1,2)", "i=1 day", "n={1.10,2}"]
    elif kinds.database.engine == "mysql":
        declared, texts = (
            "r set('a', 'b'), i time, n decimal(65,30)",
            ["r=a,b", "i=-01:02:03", "n=0.000000000002305843009213693953"],
        )
    else:
        declared, texts = "r text, i integer, n real", ["r=[1,2)", "i=5", "n=0.5"]
    kinds.run("drop table if exists ranges", f"create table ranges (id integer primary key, {declared})")
    if words[0] == "set":
        kinds.run("insert into ranges (id) values (1)")
    else:
        texts = ["id=1", *texts]
    answer("data", *words, *texts)
    shown = kinds.database.rows("select * from ranges")
    assert len(shown) == 1
    assert None not in shown[0]


EXTREMES = {
    "numeric": ["NaN", "Infinity", "1.50"],
    "double precision": ["NaN", "Infinity", "0.1"],
    "date": ["infinity", "0044-03-15 BC", "0005-02-29 BC", "20000-01-31"],
    "timestamp": ["infinity", "0044-03-15 12:30:00.5 BC", "20000-01-31 00:00:00"],
    "timestamptz": ["infinity", "4000-01-01 00:00:00+00 BC", "200000-12-31 23:59:59+00"],
}


@pytest.mark.parametrize("declared", EXTREMES)
def test_rows_are_found_by_keys_that_python_cannot_represent(kinds, answer, find_newest, declared):
    if kinds.database.engine != "postgresql":
        pytest.skip("only PostgreSQL stores these values")
    keys = EXTREMES[declared]
    kinds.run(
        "drop table if exists extremes", f"create table extremes (id {declared} primary key, note text)"
    )
    kinds.run(*(f"insert into extremes values ('{key}', '{key}')" for key in keys))
    before = kinds.database.rows("select id::text, note from extremes order by 2")
    for key in keys:
        assert answer("data", "show", "extremes", key)["data"]["note"] == key
        answer("data", "set", "extremes", key, "note=changed")
        answer("undo", find_newest(), "--yes")
        answer("data", "delete", "extremes", key, "--yes")
        assert len(kinds.database.rows("select note from extremes")) == len(keys) - 1
        answer("undo", find_newest(), "--yes")
        assert kinds.database.rows("select id::text, note from extremes order by 2") == before
    for key in ("0044-02-30 BC", "0001-02-29", "5000-01-01 BC", "99999999-01-01", "x BC"):
        answer("data", "show", "extremes", key, status=5)
