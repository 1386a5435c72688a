"""Values of every type survive the audit log, undo, export and import, as the database itself shows them, without dbctl."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.services.events.changes.log import append_changes
from dbctl.services.events.store import EventStore
from tests import servers
from tests.conformance import values
from tests.conformance.value_table import ValueTable, draw, list_differences
from tests.databases import empty_database, from_url


@pytest.fixture(scope="module", params=values.KINDS)
def table(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    with empty_database(request.param, folder / "app.db") as database:
        (folder / "dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        yield ValueTable(database), folder


@pytest.fixture
def kinds(table, monkeypatch, tmp_path):
    monkeypatch.chdir(table[1])
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return table[0]


@pytest.fixture
def find_newest(answer):
    return lambda: str(answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"])


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

    draw(kinds.kinds, check)


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

    draw(kinds.kinds, check)


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


def test_numbers_are_shown_with_every_digit(balances, capsys):
    stored = balances[0]()

    def show(*words):
        assert main(["data", *words]) == 0
        return capsys.readouterr().out

    # a number that no float represents is a text in JSON
    assert stored in show("rows", "balances", "-o", "json")
    assert show("rows", "balances", "-o", "csv") == f"id,amount\n1,{stored}\n"
    assert stored in show("set", "balances", "1", "amount=1", "--dry-run")


#: By engine: a type, a stored value, a new one as it is typed, and what is stored then; an equal value is no change.
NEARLY_EQUAL = {
    "postgresql": [
        ("bigint", "1577836800", "1577836800000", "1577836800000"),
        ("timestamptz", "'2024-01-01 00:00:00.1234+00'", "2024-01-01T00:00:00.123401Z", "2024-01-01 00:00:00.123401+00"),
        ("timestamp", "'2024-01-01 00:00:00.1234'", "2024-01-01T00:00:00.1234", "2024-01-01 00:00:00.1234"),
        ("numeric", "0.10", "0.1", "0.1"),
        ("numeric(10,2)", "0.10", "0.1", "0.10"),
        ("real", "0.1", "0.1", "0.1"),
        ("double precision", "0.1", "0.1000000000000001", "0.1000000000000001"),
        ("char(3)", "'a'", "a", "a"),
        ("date", "'2024-02-29'", "2024-02-29", "2024-02-29"),
        ("interval", "'1 day'", "24:00:00", "24:00:00"),
        ("integer[]", "'{1,NULL}'", "{1, null}", "{1,NULL}"),
        ("json", "'[1.10]'", "[1.1]", "[1.1]"),
        ("jsonb", "'[1.10]'", "[ 1.10 ]", "[1.10]"),
        ("bytea", r"'\x00ff'", r"\x00FF", r"\x00ff"),
        ("numeric(10,2)[]", "'{1.5}'", "{1.5}", "{1.50}"),
        ("numeric[]", "'{1.50}'", "{1.5}", "{1.5}"),
        ("char(3)[]", "'{a}'", "{a}", '{"a  "}'),
        ("price", "1.5", "1.5", "1.50"),
        ("interval(0)", "'2 seconds'", "1.6 seconds", "00:00:02"),
    ],
    "mysql": [
        ("bigint", "1577836800", "1577836800000", "1577836800000"),
        ("datetime(6)", "'2024-01-01 00:00:00.1234'", "2024-01-01T00:00:00.123401Z", "2024-01-01 00:00:00.123401"),
        ("decimal(10,2)", "0.10", "0.1", "0.10"),
        ("float", "7654321", "7654320", "7654320.0"),
        ("float", "7654321", "7654321", "7654321.0"),
        ("float", "0.1", "0.1", "0.10000000149011612"),
        ("varchar(9) collate utf8mb4_general_ci", "'a'", "A", "A"),
        ("varchar(9)", "'a'", "a ", "a "),
        ("date", "'2024-02-29'", "2024-02-29", "2024-02-29"),
        ("char(5)", "'ab'", "ab ", "ab"),
        ("char(5)", "'ab'", "AB ", "AB"),
        ("time", "'01:02:00'", "1:2", "1:02:00"),
        ("time", "'01:02:00'", "1:3", "1:03:00"),
        ("set('b','a','c')", "'b,c'", "c,b", "b,c"),
        ("set('b','a','c')", "'b,c'", "B,b", "b"),
        ("binary(3)", "'ab'", r"\x6162", "b'ab\\x00'"),
    ],
    "sqlite": [
        ("integer", "1577836800", "1577836800000", "1577836800000"),
        ("real", "1577836800", "1577836800000", "1577836800000.0"),
        ("real", "5", "5", "5.0"),
        ("integer", "5", "5", "5"),
        ("", "'5'", "5", "'5'"),
        ("blob", "5", "5.0", "5.0"),
        ("", "5", "5", "5"),
        ("text collate nocase", "'a'", "A", "'A'"),
        ("text", "'1.0'", "1.0", "'1.0'"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("row", [["1"], ["--filter", "id=1", "--yes"]], ids=["key", "filter"])
def test_each_value_that_would_be_stored_otherwise_is_changed(kinds, answer, row):
    cases = NEARLY_EQUAL[kinds.database.engine]
    columns = ", ".join(f"c{number} {declared}" for number, (declared, *_) in enumerate(cases))
    is_postgresql = kinds.database.engine == "postgresql"
    kinds.run(
        "drop table if exists nearly",
        *(["drop domain if exists price", "create domain price as numeric(10,2)"] if is_postgresql else []),
        f"create table nearly (id integer primary key, {columns})",
        f"insert into nearly values (1, {', '.join(stored for _, stored, *_ in cases)})",
    )
    forms = {"postgresql": "{}::text", "mysql": "{}", "sqlite": "quote({})"}

    def read(number, declared):
        form = "{} * 1e0" if declared == "float" else forms[kinds.database.engine]
        return str(kinds.database.rows(f"select {form.format(f'c{number}')} from nearly")[0][0])

    for number, (declared, stored, typed, new) in enumerate(cases):
        before = read(number, declared)
        result = answer("data", "set", "nearly", *row, f"c{number}={typed}")["data"]
        after = read(number, declared)
        assert (bool(result["changed"]), after) == (before != after, new), (declared, stored, typed)


def test_single_precision_is_shown_with_every_digit(kinds, answer):
    if "mysql" not in kinds.database.engine:
        pytest.skip("other engines print every digit themselves")
    numbers = [1234567, 16777216, 0.1, 3.4028235e38, -1.1754944e-38, 1.5]
    kinds.run(
        "drop table if exists singles",
        "create table singles (id integer primary key auto_increment, amount float)",
        *(f"insert into singles (amount) values ({number})" for number in numbers),
    )
    assert [row["amount"] for row in answer("data", "rows", "singles")["data"]["items"]] == numbers
    answer("data", "set", "singles", "1", "amount=1234570")
    assert answer("data", "show", "singles", "1")["data"]["amount"] == 1234570


def test_times_are_shown_with_microseconds(kinds, answer):
    if kinds.database.engine == "sqlite":
        pytest.skip("it stores times as texts or numbers")
    declared = "timestamptz" if kinds.database.engine == "postgresql" else "datetime(6)"
    kinds.run(
        "drop table if exists moments",
        f"create table moments (id integer primary key, at {declared})",
        "insert into moments values (1, '2024-01-01 00:00:00.123456'), (2, '2024-01-01 00:00:00.5')",
    )
    expected = ["2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00.500Z"]
    for words in (["rows", "moments"], ["query", "select at from moments order by id"]):
        assert [row["at"] for row in answer("data", *words)["data"]["items"]] == expected


def test_operation_with_rounded_numbers_of_an_older_version_is_refused(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url("app.db")
    database.run("create table sums (id integer primary key, sum real)")
    (tmp_path / "dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "app.db"\n')
    change = {"database": "main", "table": "sums", "rows": 1}
    image = {"key": {"id": 1}, "before": {"id": 1, "sum": 1.2345678901234568e17}}
    intent = {"kind": "intent", "operation": 0, "app": "a", "command": "data delete", "databases": ["main"]}
    log = EventStore(tmp_path / "state")
    first = append_changes(log, [{**intent, "changes": [{**change, "images": [image]}]}])
    append_changes(
        log, [{"kind": "outcome", "operation": first.sequence, "databases": ["main"], "result": "committed"}]
    )
    error = answer("undo", str(first.sequence), "--yes", status=6)["error"]
    assert (error["code"], "rounded numbers of sums: sum" in error["message"]) == ("undo-impossible", True)
    assert database.rows("select * from sums") == []


@pytest.mark.parametrize("form", ["set", "add", "csv", "jsonl"])
def test_number_that_the_column_would_round_is_refused(kinds, answer, form):
    if kinds.database.engine == "sqlite":
        pytest.skip("its columns have no scale")
    kinds.run(
        "drop table if exists prices",
        "create table prices (id integer primary key, amount numeric(10,2))",
        "insert into prices values (1, 5)",
    )
    words = {"set": ["set", "prices", "1"], "add": ["add", "prices", "id=2"]}.get(form)

    def store(number, status):
        if words:
            return answer("data", *words, f"amount={number}", status=status)
        path = Path(f"prices.{form}")
        path.write_text(f"id,amount\n2,{number}\n" if form == "csv" else f'{{"id": 2, "amount": {number}}}\n')
        return answer("data", "import", "prices", str(path), status=status)

    before = kinds.database.rows("select * from prices")
    for number in ("1.005", "-0.994999", "1e-3", "12345.6789"):
        assert store(number, 2)["error"]["code"] in ("value-invalid", "import-invalid")
    assert kinds.database.rows("select * from prices") == before
    store("7.2000", 0)
    assert "7.20" in {str(amount) for (amount,) in kinds.database.rows("select amount from prices")}


#: By declared type of SQLite: numbers that it would store as others, and texts that it would store as texts.
REFUSED = {
    "integer": (["99999999999999999999", "9007199254740993.0", "1e400"], ["1_000", "nan"]),
    "real": (["9007199254740993", "0.1234567890123456789", "1e400", "1e-400"], ["1_000", "nan"]),
    "decimal(9, 2)": (["99999999999999999999", "0.1234567890123456789", "1e99999999999999999999"], ["1_0"]),
}


@pytest.mark.parametrize("declared", REFUSED)
@pytest.mark.parametrize("form", ["set", "add", "csv", "quoted", "jsonl", "text"])
def test_number_that_sqlite_would_store_as_another_value_is_refused(
    answer, tmp_path, monkeypatch, form, declared
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url("app.db")
    database.run(
        f"create table prices (id integer primary key, amount {declared})", "insert into prices values (1, 5)"
    )
    (tmp_path / "dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "app.db"\n')
    lines = {
        "csv": "id,amount\n2,{}\n",
        "quoted": 'id,amount\n2,"{}"\n',
        "jsonl": '{{"id": 2, "amount": {}}}\n',
        "text": '{{"id": 2, "amount": "{}"}}\n',
    }

    def store(number, status):
        if form in lines:
            path = tmp_path / f"prices.{'csv' if form in ('csv', 'quoted') else 'jsonl'}"
            path.write_text(lines[form].format(number))
            return answer("data", "import", "prices", str(path), status=status)
        words = ["set", "prices", "1"] if form == "set" else ["add", "prices", "id=2"]
        return answer("data", *words, f"amount={number}", status=status)

    numbers, texts = REFUSED[declared]
    for number in [*numbers, *(texts if form in ("set", "add") else [])]:
        assert store(number, 2)["error"]["code"] in ("value-invalid", "import-invalid"), number
    assert database.rows("select * from prices") == [(1, 5)]
    # 2 ** -24 is as near to this number as to the one that ends with 2
    stored = "5.960464477539063e-08" if declared == "real" else "7000000000000000"
    store(stored, 0)
    assert (float(stored),) in database.rows("select amount from prices")


def test_texts_of_digits_in_strict_tables_stay_texts(answer, tmp_path, monkeypatch, find_newest):
    """``any`` of a STRICT table converts no value."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = from_url("app.db")
    database.run(
        "create table facts (id integer primary key, fact any) strict",
        "insert into facts values (1, '12'), (2, 12), (3, 12.0), (4, '012'), (5, '1.50'), (6, x'31'), (7, ''),"
        " (8, '99999999999999999999')",
    )
    before = database.rows("select id, typeof(fact), quote(fact) from facts")
    (tmp_path / "dbctl.toml").write_text(
        '[apps.a]\nprofile = "plain"\ndatabases = "app.db"\nbackup.repository = "repo"\n'
    )
    for form in ("csv", "jsonl"):
        answer("data", "export", "facts", f"facts.{form}")
    answer("backup", "create")
    for command in (
        ("undo", "OPERATION", "--yes"),
        ("data", "import", "facts", "facts.csv"),
        ("data", "import", "facts", "facts.jsonl"),
        ("restore", "apply", "latest", "--table", "facts", "--merge", "missing", "--yes"),
    ):
        answer("data", "delete", "facts", "--filter", "id>0", "--yes")
        newest = find_newest()
        answer(*(newest if word == "OPERATION" else word for word in command))
        assert database.rows("select id, typeof(fact), quote(fact) from facts") == before, command
    merged = answer("restore", "apply", "latest", "--table", "facts", "--merge", "replace", "--yes")["data"]
    assert [(table["same"], table["replaced"]) for table in merged["tables"]] == [(8, 0)]


def test_bytes_are_accepted_in_each_form_that_outputs_show(kinds, answer):
    declared = {"postgresql": "bytea", "mysql": "varbinary(9)", "sqlite": "blob"}[kinds.database.engine]
    kinds.run(
        "drop table if exists hashes",
        f"create table hashes (hash {declared} primary key, content {declared})",
    )
    answer("data", "add", "hashes", r"hash=\x00ff0a", r"content=\x0a")
    answer("data", "add", "hashes", r"hash=\x00", r"content=\x0b")
    shown = answer("data", "rows", "hashes")["data"]["items"][1]["hash"]
    for text in (json.dumps(shown), json.dumps(shown, separators=(",", ":")), r"\x00ff0a"):
        rows = answer("data", "rows", "hashes", "--filter", f"hash={text}")["data"]["items"]
        assert [row["content"] for row in rows] == [{"$b64": "Cg=="}], text
        assert answer("data", "show", "hashes", text)["data"]["content"] == {"$b64": "Cg=="}
        unchanged = answer("data", "set", "hashes", text, 'content={"$b64": "Cg=="}')["data"]
        assert unchanged["effect"] is None
    answer("data", "set", "hashes", r"\x00", 'content={"$b64": "!"}', status=2)


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31 12:00:00.5",
        "2026-01-31 12:00:00.000",
        "2026-01-31 12:00:00.123456789",
        "2026-01-31 12:00:00",
        "2026-01-31T12:00:00.123456Z",
    ],
)
def test_typed_time_keeps_the_digits_of_its_second_in_sqlite(answer, tmp_path, monkeypatch, time):
    monkeypatch.chdir(tmp_path)
    database = from_url("app.db")
    separator, end = ("T", "Z") if "T" in time else (" ", "")
    database.run(
        "create table visits (id integer primary key, at datetime)",
        f"insert into visits values (1, '{time}'), (2, '2026-01-30{separator}10:00:00{end}')",
    )
    shown = answer("data", "show", "visits", "1", "--url", "main=app.db")["data"]["at"]
    for number in ("1", "2"):
        answer("data", "set", "visits", number, f"at={shown}", "--url", "main=app.db")
    assert database.rows("select at from visits") == [(time,), (time,)]
    answer("data", "set", "visits", "1", "at=now", "--url", "main=app.db")
    ((now,),) = database.rows("select at from visits where id = 1")
    assert ("." in now) == (end == "Z")


def test_typed_fraction_has_the_digits_of_the_app(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = from_url("app.db")
    database.run(
        "create table visits (id integer primary key, at datetime)",
        "insert into visits values (1, '2026-01-30T10:00:00.590Z'), (2, '2026-01-30T10:00:00.000Z')",
    )
    answer("data", "set", "visits", "2", "at=2026-01-30T10:00:00.5Z", "--url", "main=app.db")
    assert database.rows("select at from visits order by at") == [
        ("2026-01-30T10:00:00.500Z",),
        ("2026-01-30T10:00:00.590Z",),
    ]


def test_number_in_a_text_column_of_sqlite_keeps_every_digit(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = from_url("app.db")
    database.run("create table notes (id integer primary key, note text)")
    (tmp_path / "notes.jsonl").write_text('{"id": 1, "note": 0.12345678901234567891}\n')
    answer("data", "import", "notes", "notes.jsonl", "--url", "main=app.db")
    assert database.rows("select note from notes") == [("0.12345678901234567891",)]


@pytest.mark.parametrize("form", ["set", "add", "csv", "jsonl"])
def test_time_that_the_column_would_round_is_refused(kinds, answer, form):
    if kinds.database.engine == "sqlite":
        pytest.skip("its columns have no precision")
    precise = "timestamp(6)" if kinds.database.engine == "postgresql" else "datetime(6)"
    kinds.run(
        "drop table if exists visits",
        f"create table visits (id integer primary key, second timestamp(0) null, exact {precise}, day date, clock time(1))",
        "insert into visits (id) values (1)",
    )
    words = {"set": ["set", "visits", "1"], "add": ["add", "visits", "id=2"]}.get(form)

    def store(name, value, status):
        if words:
            return answer("data", *words, f"{name}={value}", status=status)
        path = Path(f"visits.{form}")
        line = json.dumps({"id": 2, name: value}) if form == "jsonl" else f"id,{name}\n2,{value}"
        path.write_text(f"{line}\n")
        return answer("data", "import", "visits", str(path), status=status)

    before = kinds.database.rows("select * from visits")
    for name, value in [
        ("second", "2026-01-31T12:00:00.5Z"),
        ("exact", "2026-01-31T12:00:00.1234567Z"),
        ("day", "2026-01-31T12:00:00Z"),
        ("clock", "12:00:00.25"),
    ]:
        assert store(name, value, 2)["error"]["code"] in ("value-invalid", "import-invalid")
    assert kinds.database.rows("select * from visits") == before
    store("second", "2026-01-31T12:00:01.000Z", 0)
    sql = "select second from visits where second is not null"
    assert [str(time) for (time,) in kinds.database.rows(sql)] == ["2026-01-31 12:00:01"]


def test_filter_for_other_values_than_an_invalid_one_is_refused(kinds, answer):
    kinds.run(
        "drop table if exists counted",
        "create table counted (id integer primary key, n integer)",
        "insert into counted values (1, 10), (2, null)",
    )
    for condition in ("n!=1O", "n<2026-01-31", "n<=2026-01-31T12:00:00Z", "n<", "n>="):
        error = answer("data", "delete", "counted", "--filter", condition, "--yes", status=2)["error"]
        assert error["code"] == "value-invalid"
    for condition in ("n<10.5", "n>=9.75", "n<1e3", "n<99999999999999999999"):  # numbers that no row has
        assert len(answer("data", "rows", "counted", "--filter", condition)["data"]["items"]) == 1
    assert answer("data", "rows", "counted", "--filter", "n=1O")["data"]["items"] == []
    answer("data", "delete", "counted", "--filter", "n!=11", "--yes")
    assert kinds.database.rows("select id from counted") == [(2,)]


def test_filter_orders_texts_and_bytes_by_texts_that_a_column_cannot_store(kinds, answer):
    types = {"postgresql": "bytea", "mysql": "varbinary(3)", "sqlite": "text"}
    kinds.run(
        "drop table if exists months",
        f"create table months (id integer primary key, month char(7), title {types[kinds.database.engine]})",
        "insert into months values (1, '2026-01', 'Ada'), (2, '2026-02', 'Bo'), (3, null, null)",
    )
    filters = {
        "month<2026-01-31": [1],
        "month>=2026-01-31": [2],
        "title<B": [1],
        "title>=Boris": [],
        "title>7": [1, 2],
    }
    for condition, expected in filters.items():
        rows = answer("data", "rows", "months", "--filter", condition)["data"]["items"]
        assert [row["id"] for row in rows] == expected, condition
    if types[kinds.database.engine] != "text":
        answer("data", "rows", "months", "--filter", r"title<\x0", status=2)


def write_times(form):
    """Return times an hour apart as SQL in a form of SQLite."""
    return (
        f"with recursive n(i) as (select 0 union all select i + 1 from n where i < 9) select i, {form} from n"
    )


TIME_SQL = "strftime('{}', '2026-11-10T00:00:00', i || ' hours')"
STORED = {
    "%Y-%m-%d %H:%M:%S": {"2026-11-10T04:00:00Z": None, "2026-11-10 04:00": 4, "2026-11-11": 10, "2026-11-10": 0},
    "%Y-%m-%dT%H:%M:%SZ": {"2026-11-10T04:00:00Z": 4, "2026-11-10 04:00:00": None, "2026-11-11": 10},
    "%Y-%m-%dT%H:%M:%S": {"2026-11-10T04:00:00Z": None, "2026-11-10T04:00:00": 4},
    "%s": {"2026-11-10T04:00:00Z": None, "2026-11-11": None},
    "%J": {"2026-11-11": None},
    "day %d": {"2026-11-11": 0, "day 11": 10},
}  # fmt: skip


@pytest.mark.parametrize("form", STORED)
def test_filter_refuses_to_order_texts_of_times_in_different_forms(form, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from_url("app.db").run(
        "create table logs (id integer primary key, at text)",
        f"insert into logs {write_times(TIME_SQL.format(form))}",
    )
    for time, expected in STORED[form].items():
        command = ["data", "delete", "logs", "--url", "main=app.db", "--dry-run", "--filter", f"at<{time}"]
        if expected is None:
            assert answer(*command, status=2)["error"]["code"] == "value-invalid"
        else:
            assert answer(*command)["data"]["plan"]["rows"].get("logs", 0) == expected


@pytest.mark.parametrize(
    ("form", "is_known"),
    [
        ("julianday('2026-11-10') + i", False),
        ("(1795132800 + 3600 * i) * 1000000", False),
        ("strftime('%Y-%m-%d %H:%M:%S', '2026-11-10') || '.5 +0000 UTC'", False),
        ("1795132800 + 3600 * i", True),
        ("case i % 3 when 0 then 1795132800 when 1 then 'never' else '2026-11-10 00:00:00' end", True),
    ],
)
def test_filter_by_a_time_requires_a_column_with_known_times(form, is_known, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from_url("app.db").run(
        "create table logs (id integer primary key, at datetime)", f"insert into logs {write_times(form)}"
    )
    for condition in ("at<2026-11-10T05:00:00Z", "at>2027-01-01"):
        command = ["data", "rows", "logs", "--url", "main=app.db", "--filter", condition]
        result = answer(*command, status=0 if is_known else 2)
        assert is_known or result["error"]["code"] == "value-invalid"


def test_refusal_of_a_filter_shows_the_beginning_of_a_long_value(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from_url("app.db").run(
        "create table notes (id integer primary key, content text)",
        "insert into notes values (1, '2026-11-10 ' || hex(zeroblob(50000)))",
    )
    command = ["data", "rows", "notes", "--url", "main=app.db", "--filter"]
    error = answer(*command, "content<2026-11-10T06:00:00Z", status=2)["error"]
    assert error["code"] == "value-invalid"
    assert len(error["message"]) < 300


def test_filter_excludes_a_time_of_a_column_with_several_forms(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from_url("app.db").run(
        "create table settings (id integer primary key, value text)",
        "insert into settings values (1, 'dark'), (2, '1795132800'), (3, '2026-01-31'), (4, '2026-01-31 10:00:00')",
    )
    command = ["data", "rows", "settings", "--url", "main=app.db", "--filter"]
    for time, row_id in (("2026-01-31", 3), ("2026-01-31 10:00:00", 4)):
        ids = [row["id"] for row in answer(*command, f"value!={time}")["data"]["items"]]
        assert ids == [number for number in range(1, 5) if number != row_id]
    answer(*command, "value!=2026-01-31T10:00:00Z", status=2)


def test_filter_compares_texts_among_numbers(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from_url("app.db").run(
        "create table mixed (id integer primary key, n integer)", "insert into mixed values (1, 10), (2, 'a')"
    )
    command = ["data", "rows", "mixed", "--url", "main=app.db", "--filter"]
    assert [row["id"] for row in answer(*command, "n>Z")["data"]["items"]] == [2]


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


@pytest.mark.parametrize("words", [["ranges", "1"], ["ranges", "--filter", "id=1"]])
def test_text_that_only_the_server_can_parse_is_refused_as_a_value(kinds, answer, words):
    if kinds.database.engine != "postgresql":
        pytest.skip("other engines have no types of which only the server knows the text")
    kinds.run(
        "drop table if exists ranges",
        "create table ranges (id integer primary key, r int4range)",
        "insert into ranges values (1, '[1,2)')",
    )
    error = answer("data", "set", *words, "r=[1", status=2)["error"]
    assert (error["code"], error["message"][:7]) == ("value-invalid", "r given")
    assert kinds.database.rows("select r::text from ranges") == [("[1,2)",)]


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


def test_filters_compare_single_precision_with_the_number_that_is_shown(kinds, answer, find_newest):
    single = {"postgresql": "real", "mysql": "float", "sqlite": "real"}[kinds.database.engine]
    kinds.run("drop table if exists scores", f"create table scores (score {single} primary key)")
    kinds.run("insert into scores values (0.1), (0.2), (16777216)")

    def find(condition):
        words = ("data", "rows", "scores", "--filter", condition)
        return [item["score"] for item in answer(*words)["data"]["items"]]

    assert find("score=0.1") == [0.1]
    assert find("score<=0.1") == [0.1]
    assert find("score>0.1") == [0.2, 16777216]
    assert find("score!=0.2") == [0.1, 16777216]
    assert find("score<1e39") == [0.1, 0.2, 16777216]
    assert find("score=1e-60") == find("score=1e39") == []
    before = kinds.database.rows("select * from scores order by 1")
    answer("data", "delete", "scores", "--filter", "score>0.1", "--yes")
    assert len(kinds.database.rows("select score from scores")) == 1
    answer("undo", find_newest(), "--yes")
    answer("data", "delete", "scores", "0.1", "--yes")
    answer("undo", find_newest(), "--yes")
    assert kinds.database.rows("select * from scores order by 1") == before


@pytest.fixture
def postgresql(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("postgresql", tmp_path) as database:
        Path("dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        yield database


def test_addresses_are_found_as_they_are_shown(postgresql, answer, find_newest):
    postgresql.run(
        "create table logins (ip inet primary key, n int)",
        "insert into logins values ('10.0.0.1', 1), ('10.0.0.1/24', 2), ('::1', 3)",
    )
    for address in ("10.0.0.1", "10.0.0.1/24", "::1"):
        (row,) = answer("data", "rows", "logins", "--filter", f"ip={address}")["data"]["items"]
        assert row["ip"] == address
    before = postgresql.content()
    answer("data", "set", "logins", "10.0.0.1", "n=7")
    (change,) = answer("audit", "show", find_newest())["data"]["changes"]
    assert (change["images"][0]["before"], change["images"][0]["after"]) == ({"n": 1}, {"n": 7})
    answer("undo", find_newest(), "--yes")
    assert postgresql.content() == before


@pytest.mark.parametrize("others", [[], ["2 days"]])
def test_new_rows_whose_keys_are_stored_in_another_form_are_recorded(postgresql, answer, find_newest, others):
    postgresql.run("create table waits (wait interval primary key, n int)")
    lines = [json.dumps({"wait": wait, "n": 1}) for wait in ["1 week", *others]]
    Path("rows.jsonl").write_text("\n".join(lines))
    answer("data", "import", "waits", "rows.jsonl")
    before = postgresql.content()
    (change,) = answer("audit", "show", find_newest())["data"]["changes"]
    assert (change["table"], change["rows"], change["images"]) == ("waits", len(lines), None)
    error = answer("undo", find_newest(), "--yes", status=6)["error"]
    assert error["code"] == "undo-impossible"
    assert postgresql.content() == before


def test_text_of_a_database_without_encoding_is_imported_and_restored(
    tmp_path, monkeypatch, answer, find_newest
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with (
        servers.postgresql_database(encoding="SQL_ASCII") as url,
        closing(servers.connection(url)) as connection,
    ):
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "{servers.text(url)}"\n'
        )
        connection.execute("create table goods (id integer primary key, name text, short varchar(4))")
        connection.execute(rb"insert into goods values (1, E'caf\xe9', E'\xe9'), (2, 'tea', null)")

        def read():
            return connection.execute(
                "select id, name::bytea, short::bytea from goods order by id"
            ).fetchall()

        expected = read()
        for file in ("goods.jsonl", "goods.csv"):
            answer("data", "export", "goods", file)
            connection.execute("delete from goods")
            answer("data", "import", "goods", file, "--yes")
            assert read() == expected
        for words in (("set", "goods", "1", "name=new"), ("delete", "goods", "1")):
            answer("data", *words, "--yes")
            answer("undo", find_newest(), "--yes")
            assert read() == expected
        (tmp_path / "nul.jsonl").write_text('{"id": 3, "name": {"$b64text": "AOk="}}\n')
        error = answer("data", "import", "goods", "nul.jsonl", "--yes", status=2)["error"]
        assert "NUL" in error["message"]
        assert read() == expected


@pytest.mark.parametrize("key", ["ab", "ab      "])
def test_row_with_a_padded_key_is_changed_and_restored(postgresql, answer, find_newest, key):
    postgresql.run(
        "create table codes (code char(8) primary key, n integer)",
        "create table uses (id integer primary key, code char(8) references codes on delete cascade)",
        "insert into codes values ('ab', 1), ('abc', 2)",
        "insert into uses values (1, 'ab')",
    )
    before = postgresql.content()
    assert answer("data", "set", "codes", key, "n=5")["data"]["changed"] == 1
    change = find_newest()
    answer("data", "delete", "codes", "--filter", f"code={key}", "--yes")
    assert postgresql.rows("select count(*) from uses") == [(0,)]
    for operation in (find_newest(), change):
        answer("undo", operation, "--yes")
    assert postgresql.content() == before


@pytest.mark.parametrize("kind", ["", "blob"])
def test_digits_find_numbers_and_texts_in_a_column_of_any_type(answer, tmp_path, kind):
    stored = [5, "5", 7, "8", 1.5, "1.5", "", None, "x"]
    with closing(sqlite3.connect(tmp_path / "app.db")) as db, db:
        db.execute(f"create table t (id integer primary key, v {kind})")
        db.executemany("insert into t (v) values (?)", [(value,) for value in stored])
        db.execute(f"create table k (v {kind} primary key)")
        db.executemany("insert into k values (?)", [(5,), ("5",), ("6",), ("7",)])
        db.execute(f"create table pairs (a {kind}, b {kind}, n integer, primary key (a, b))")
        db.executemany("insert into pairs values (?, ?, ?)", [(5, "y", 1), ("5", "x", 2), (5, "6", 3)])
    options = ("--profile", "plain", "--url", f"main={tmp_path}/app.db")

    def find(condition):
        rows = answer("data", "rows", "t", "--filter", f"v{condition}", *options)["data"]["items"]
        return [row["v"] for row in rows]

    assert find("=5") == [5, "5"]
    assert find("!=5") == [7, "8", 1.5, "1.5", "", "x"]
    assert find("<5") == [1.5, "1.5", ""]
    assert find("<=5") == [5, "5", 1.5, "1.5", ""]
    assert find(">5") == [7, "8", "x"]
    assert find(">=5") == [5, "5", 7, "8", "x"]
    assert answer("data", "show", "k", "6", *options)["data"] == {"v": "6"}
    assert answer("data", "show", "k", "5", *options)["data"] == {"v": 5}
    after = answer("data", "rows", "k", "--after", "6", *options)["data"]["items"]
    assert after == [{"v": "7"}]
    answer("data", "delete", "k", "5", "--yes", *options)
    answer("data", "delete", "k", "7", "--yes", *options)
    assert answer("data", "rows", "k", *options)["data"]["items"] == [{"v": "5"}, {"v": "6"}]
    for key, number in (("5", "y"), 1), (("5", "x"), 2), (("5", "6"), 3):
        assert answer("data", "show", "pairs", *key, *options)["data"]["n"] == number


@pytest.mark.parametrize(("engine", "kind"), [("postgresql", "timestamptz"), ("mysql", "datetime(6)")])
def test_rows_of_one_millisecond_are_different_rows(answer, find_newest, tmp_path, monkeypatch, engine, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(engine, tmp_path / "app.db") as database:
        Path("dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        database.run(f"create table events (at {kind} primary key, n integer)")
        for number in range(3):
            database.run(f"insert into events values ('2026-01-02 03:04:05.12300{number}', {number})")
        before = database.content()
        keys = [row["at"] for row in answer("data", "rows", "events")["data"]["items"]]
        for number, key in enumerate(keys):
            assert answer("data", "show", "events", key)["data"]["n"] == number
            after = answer("data", "rows", "events", "--after", key)["data"]["items"]
            assert [row["n"] for row in after] == [*range(number + 1, 3)]
            assert answer("data", "rows", "events", "--filter", f"at={key}")["data"]["total"] == 1
            answer("data", "set", "events", key, "n=7")
            assert sorted(n for (n,) in database.rows("select n from events")) == [*{0, 1, 2} - {number}, 7]
            answer("undo", find_newest(), "--yes")
            answer("data", "delete", "events", key, "--yes")
            assert len(database.rows("select n from events")) == 2
            answer("undo", find_newest(), "--yes")
            assert database.content() == before


def test_row_whose_key_is_an_array_is_changed(postgresql, answer):
    postgresql.run(
        "create table t (k text[] primary key, n int)", "insert into t values ('{a}', 1), ('{}', 2)"
    )
    answer("data", "set", "t", "{a}", "n=7")
    assert postgresql.rows("select n from t order by k") == [(2,), (7,)]


@pytest.mark.parametrize(
    ("engine", "kind", "times"),
    [
        ("postgresql", "timestamptz", ["0044-03-15 00:00:00+00 BC", "2026-01-02", "infinity"]),
        ("postgresql", "date", ["0044-03-15 BC", "2026-01-02", "12026-12-31", "infinity"]),
        ("mysql", "date", ["0000-00-00", "2026-00-00", "2026-01-02"]),
        ("mysql", "datetime", ["0000-00-00 00:00:00", "2026-01-00 10:00:00", "2026-01-02 00:00:00"]),
    ],
)
def test_times_that_only_a_server_has_are_accepted_as_they_are_shown(answer, tmp_path, engine, kind, times):
    with empty_database(engine, tmp_path / "app.db") as database:
        mode = ["set sql_mode = ''"] if engine == "mysql" else []
        rows = ", ".join(f"('{time}', '{time}', {number})" for number, time in enumerate(times))
        database.run(
            *mode, f"create table t (k {kind} primary key, at {kind}, n int)", f"insert into t values {rows}"
        )
        options = ("--profile", "plain", "--url", f"main={database.url}")
        select = "select cast(k as char(40)), cast(at as char(40)), n from t order by n"
        before = database.rows(select)
        for number, row in enumerate(answer("data", "rows", "t", *options)["data"]["items"]):
            for operator, expected in ("=", 1), ("<=", number + 1), (">", len(times) - number - 1):
                listed = answer("data", "rows", "t", "--filter", f"at{operator}{row['at']}", *options)
                assert listed["data"]["total"] == expected, (operator, row)
            assert answer("data", "set", "t", row["k"], f"at={row['at']}", *options)["data"]["effect"] is None
            assert database.rows(select) == before
            other = times[number - 1]
            answer("data", "set", "t", row["k"], f"at={other}", *options)
            assert answer("data", "rows", "t", "--filter", f"at={other}", *options)["data"]["total"] == 2
            answer("data", "set", "t", row["k"], f"at={row['at']}", *options)
            assert database.rows(select) == before
        for typo in "2026-13-01", "2026-01-02 hello", "2026-01-02 25:00:00", "20262-01-02 x", "x BC":
            for operator in "=", "!=", "<":
                answer("data", "rows", "t", "--filter", f"at{operator}{typo}", *options, status=2)
            answer("data", "set", "t", row["k"], f"at={typo}", *options, status=2)


def test_bytes_in_a_column_with_a_type_of_another_engine_are_accepted_as_they_are_shown(answer, tmp_path):
    """Synapse declares ``bytea`` also in SQLite, which converts texts for it as for numbers."""
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as db:
        db.execute("create table t (id integer primary key, filter bytea)")
        db.execute("insert into t values (1, x'00ff'), (2, x'01'), (3, 7)")
        options = ("--profile", "plain", "--url", f"main={tmp_path}/app.db")
        shown = json.dumps(answer("data", "show", "t", "1", *options)["data"]["filter"])
        (row,) = answer("data", "rows", "t", "--filter", f"filter={shown}", *options)["data"]["items"]
        assert row["id"] == 1
        answer("data", "set", "t", "2", f"filter={shown}", *options)
        assert db.execute("select filter from t").fetchall() == [(b"\x00\xff",), (b"\x00\xff",), (7,)]


def test_stored_texts_are_accepted_as_they_are_shown(answer, tmp_path):
    stored = ["1", 1, "1.0", 1.5, "1.50", "\\x00", "9223372036854775807", "x", ""]
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as db:
        db.execute("create table t (id integer primary key, v, digits blob, at datetime)")
        rows = [(value, f"0{number}1"[-2:], "2026-01-02T03:04:05Z") for number, value in enumerate(stored)]
        db.executemany("insert into t (v, digits, at) values (?, ?, ?)", rows)
        options = ("--profile", "plain", "--url", f"main={tmp_path}/app.db")
        select = "select id, typeof(v), v, typeof(digits), digits, at from t"
        before = db.execute(select).fetchall()
        for row in answer("data", "rows", "t", *options)["data"]["items"]:
            values = [f"{name}={value}" for name, value in row.items() if name != "id"]
            assert answer("data", "set", "t", str(row["id"]), *values, *options)["data"]["effect"] is None
        assert db.execute(select).fetchall() == before
        answer("data", "set", "t", "1", "digits=77", *options)
        answer("data", "add", "t", "digits=88", "v=8", *options)
        written = db.execute("select digits from t where typeof(digits) = 'text' and digits in ('77', '88')")
        assert written.fetchall() == [("77",), ("88",)]


def test_arrays_of_bytes_and_booleans_are_accepted_as_they_are_shown(postgresql, answer):
    postgresql.run(
        "create table t (id int primary key, raw bytea[], flags bool[][])",
        r"""insert into t values (1, array['\x00ff'::bytea, null], '{{t,f},{f,null}}')""",
    )
    row = answer("data", "show", "t", "1")["data"]
    for name in "raw", "flags":
        value = f"{name}={json.dumps(row[name])}"
        assert answer("data", "set", "t", "1", value)["data"]["effect"] is None
        assert answer("data", "rows", "t", "--filter", value)["data"]["items"] == [row]


@pytest.mark.parametrize("selection", [["1"], ["--filter", "id=1", "--yes"]], ids=["key", "filter"])
def test_boolean_is_written_as_one_also_over_its_text(answer, tmp_path, selection):
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run("create table t (id integer primary key, b boolean)", "insert into t values (1, 'true')")
        options = ("--profile", "plain", "--url", f"main={database.url}")
        answer("data", "set", "t", *selection, "b=true", *options)
        assert database.rows("select b from t") == [(1,)]


@pytest.mark.parametrize("shown", ["[1, 2]", "[3]", "[]"])
def test_row_is_found_by_an_array_as_it_is_shown(postgresql, answer, shown):
    postgresql.run(
        "create table t (k int[] primary key, words text[])",
        """insert into t values ('{1,2}', '{a,"b c","NULL",""}'), ('{3}', '{x,NULL}'), ('{}', '{}')""",
    )
    row = answer("data", "show", "t", shown)["data"]
    assert row["k"] == json.loads(shown)
    (same,) = answer("data", "rows", "t", "--filter", f"words={json.dumps(row['words'])}")["data"]["items"]
    assert same == row


def test_shape_is_found_and_not_changed_by_its_bytes(answer, tmp_path):
    with empty_database("mysql", tmp_path / "app.db") as database:
        database.run(
            "create table t (id int primary key, p point)",
            "insert into t values (1, point(1, 2)), (2, point(2, 1))",
        )
        options = ("--profile", "plain", "--url", f"main={database.url}")
        shown = json.dumps(answer("data", "show", "t", "1", *options)["data"]["p"])
        (row,) = answer("data", "rows", "t", "--filter", f"p={shown}", *options)["data"]["items"]
        assert row["id"] == 1
        assert answer("data", "set", "t", "1", f"p={shown}", *options)["data"]["effect"] is None
        assert answer("data", "set", "t", "2", f"p={shown}", *options)["data"]["effect"] is not None
