"""``data replace``: values of PHP and JSON, keys, secrets, rules and limits, on every engine; undo restores every byte."""

from __future__ import annotations

import json

import pytest

from dbctl.profiles.php import dump_php
from tests.databases import empty_database

OLD, NEW = "http://old.example", "https://neu.example/ü"
#: Values by id, and what they become; None: they remain, because they cannot be read, or the text is no whole part of them.
VALUES = {
    1: (OLD, NEW),
    2: (f"see {OLD}/a and {OLD}/b", f"see {NEW}/a and {NEW}/b"),
    3: (dump_php({"url": OLD, "é": [1, {"x": f"{OLD}é"}]}), dump_php({"url": NEW, "é": [1, {"x": f"{NEW}é"}]})),
    4: (dump_php([dump_php([OLD])]), dump_php([dump_php([NEW])])),
    5: ('{"a": "http:\\/\\/old.example\\/x", "n": 1.50}', '{"a": "https:\\/\\/neu.example\\/\\u00fc\\/x", "n": 1.50}'),
    6: (dump_php([json.dumps({"é": OLD}, ensure_ascii=False)]), dump_php([json.dumps({"é": NEW}, ensure_ascii=False)])),
    7: (f'O:1:"A":2:{{s:1:"a";s:18:"{OLD}";s:1:"b";R:2;}}', f'O:1:"A":2:{{s:1:"a";s:22:"{NEW}";s:1:"b";R:2;}}'),
    8: (f'a:1:{{i:0;s:17:"{OLD}";}}', None),
    9: ("HTTP://OLD.EXAMPLE", None),
    10: ("other", None),
    11: (f'{{"{OLD}": 1}}', None),
    12: ('<a data-x=\'{"u":"http:\\/\\/old.example"}\'>', '<a data-x=\'{"u":"https:\\/\\/neu.example\\/ü"}\'>'),
}  # fmt: skip
SCHEMAS = {
    "sqlite": "create table items (id integer primary key, code text unique, value text, small varchar(30), data text, n integer)",
    "postgresql": "create table items (id integer primary key, code text unique, value text, small varchar(30), data jsonb, n integer)",
    "mysql": "create table items (id integer primary key, code varchar(99) unique, value longtext, small varchar(30), data json, n integer)"
    " default charset utf8mb4",
}


def quote(value: object, engine: str) -> str:
    """Return a literal; on servers of MySQL in hexadecimal, as MySQL and MariaDB read backslashes differently here."""
    if value is None:
        return "null"
    if engine == "mysql":
        return f"_utf8mb4 x'{str(value).encode().hex()}'"
    return "'" + str(value).replace("'", "''") + "'"


@pytest.fixture(params=SCHEMAS)
def database(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database(request.param, tmp_path / "app.db") as database:
        database.run(SCHEMAS[request.param])
        for number, (value, _) in VALUES.items():
            text = quote(value, request.param)
            database.run(f"insert into items values ({number}, 'c{number}', {text}, 'x', null, {number})")
        (tmp_path / "dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        yield database


def insert(database, number, *values):
    columns = ", ".join(quote(value, database.engine) for value in values)
    database.run(f"insert into items values ({number}, {columns}, {number})")


def read_values(database):
    return dict(database.rows("select id, value from items"))


def find_remaining(result):
    return {
        (item["table"], item["column"], item["reason"]): item["rows"] for item in result["data"]["remaining"]
    }


def test_values_are_replaced_and_undone(database, answer):
    before = database.content()
    planned = answer("data", "replace", OLD, NEW, "--dry-run")["data"]["plan"]
    assert database.content() == before
    assert planned["rows"] == {"items": 8}
    assert planned["destructive"]
    result = answer("data", "replace", OLD, NEW, "--yes")
    assert read_values(database) == {number: new or old for number, (old, new) in VALUES.items()}
    assert result["data"]["replaced"] == [
        {"database": "main", "table": "items", "column": "value", "rows": 8}
    ]
    assert find_remaining(result) == {("items", "value", "unreadable"): 1, ("items", "value", "names"): 1}
    assert [item["keys"] for item in result["data"]["remaining"]] == [[[8]], []]
    answer("undo", str(answer("audit", "list")["data"]["items"][0]["operation"]), "--yes")
    assert database.content() == before


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_values_that_a_trigger_changes_with_those_of_other_rows_are_undone(database, answer):
    count = "update items set n = n + 1 where id <> new.id"
    if database.engine == "sqlite":
        database.run(f"create trigger counting after update of value on items begin {count}; end")
    else:
        database.run(
            f"create function counting() returns trigger language plpgsql as $$ begin {count}; return null; end $$",
            "create trigger counting after update of value on items for each row execute function counting()",
        )
    answer("data", "replace", OLD, NEW, "--yes")
    operation = answer("audit", "list")["data"]["items"][0]["operation"]
    changes = answer("audit", "show", str(operation))["data"]["changes"][0]["images"]
    assert [image["before"]["n"] for image in changes] == [image["key"]["id"] for image in changes]
    answer("undo", str(operation), "--yes")
    changed = ", ".join(str(image["key"]["id"]) for image in changes)
    assert database.rows(f"select n from items where id in ({changed}) and n <> id") == []


def test_confirmation_is_required(database, answer):
    before = database.content()
    answer("data", "replace", OLD, NEW, status=6)
    assert database.content() == before


def test_numbers_and_names_of_documents_remain(database, answer):
    insert(database, 101, "x", "", "", '{"a": [1, "101"], "101": "b"}')
    if (
        database.engine == "postgresql"
    ):  # another engine stores a document as text, which may be a number by chance
        insert(database, 102, "y", "", "", "101")
    answer("data", "replace", "101", 'n"w', "--yes")
    values = [value for (value,) in database.rows("select data from items where id > 100 order by id")]
    parsed = [json.loads(value) if isinstance(value, str) else value for value in values]
    assert parsed == [{"a": [1, 'n"w'], "101": "b"}, 101][: len(values)]


def test_keys_are_not_changed(database, answer):
    database.run(
        "create table children (id varchar(99) primary key, code varchar(99) references items (code), x varchar(99))"
        if database.engine != "mysql"
        else "create table children (id varchar(99) primary key, code varchar(99), x varchar(99), foreign key (code) references items (code))"
        " default charset utf8mb4"
    )
    database.run("insert into children values ('c1 text', 'c1', 'c1 too')")
    result = answer("data", "replace", "c1", "d1", "--yes")
    assert database.rows("select id, code, x from children") == [("c1 text", "c1", "d1 too")]
    assert find_remaining(result) == {
        ("children", "id", "key"): 1,
        ("children", "code", "key"): 1,
        ("items", "code", "key"): 4,
    }


def test_too_long_value_changes_nothing(database, answer):
    if database.engine == "sqlite":
        pytest.skip("SQLite has no limits of length")
    insert(database, 101, "x", OLD, f"{OLD}/12345", None)
    before = database.content()
    error = answer("data", "replace", OLD, "https://much-longer.example", "--yes", status=2)["error"]
    assert error["code"] == "value-invalid"
    assert "items.small of 101" in error["message"]
    assert database.content() == before
    answer("data", "replace", OLD, "https://much-longer.example", "--skip", "items.small", "--yes")
    assert database.rows("select value, small from items where id = 101") == [
        ("https://much-longer.example", f"{OLD}/12345")
    ]


def test_duplicate_changes_nothing(database, answer):
    before = database.content()
    answer("data", "replace", "c1", "c2", "--yes", status=6)
    assert database.content() == before


def test_check_of_the_schema_changes_nothing(database, answer):
    database.run("create table checked (id integer primary key, x varchar(20) check (x <> 'new'))")
    database.run("insert into checked values (1, 'old'), (2, 'old!')")
    before = database.content()
    error = answer("data", "replace", "old", "new", "--table", "checked", "--yes", status=6)["error"]
    assert error["message"].splitlines()[1:] == ["checked.x of 1"]
    assert database.content() == before


def test_table_without_a_primary_key_is_reported(database, answer):
    database.run("create table loose (x varchar(20))", "insert into loose values ('old'), ('OLD'), ('cold')")
    result = answer("data", "replace", "old", "new", "--table", "loose", "--yes")
    assert find_remaining(result) == {("loose", "", "no-primary-key"): 2}
    assert sorted(database.rows("select x from loose")) == [("OLD",), ("cold",), ("old",)]


def test_many_rows_and_composite_keys(database, answer):
    database.run("create table pairs (a varchar(9), b integer, x varchar(20), primary key (a, b))")
    rows = ", ".join(f"('k{n % 7}', {n}, 'old {n}')" for n in range(700))
    database.run(f"insert into pairs values {rows}")
    result = answer("data", "replace", "old", "older old", "--table", "pairs", "--yes")
    assert result["data"]["rows"] == {"pairs": 700}
    assert set(database.rows("select x from pairs")) == {(f"older old {n}",) for n in range(700)}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_rows_of_an_inheriting_table_change_once(database, answer):
    database.run(
        "create table animals (id integer primary key, x text)",
        "create table cats (primary key (id)) inherits (animals)",
        "insert into animals values (1, 'old')",
        "insert into cats values (2, 'old')",
    )
    words = ["data", "replace", "old", "very old", "--skip", "items"]
    assert answer(*words, "--dry-run")["data"]["plan"]["rows"] == {"animals": 1, "cats": 1}
    assert answer(*words, "--yes")["data"]["rows"] == {"animals": 1, "cats": 1}
    assert database.rows("select id, x from animals order by id") == [(1, "very old"), (2, "very old")]
    (number,) = (item["operation"] for item in answer("audit", "list")["data"]["items"])
    answer("undo", str(number), "--yes")
    assert database.rows("select x from animals") == [("old",), ("old",)]


def test_generated_columns_and_views_follow(database, answer):
    kind = "varchar(99)" if database.engine == "mysql" else "text"
    database.run(
        f"create table sums (id integer primary key, x {kind}, y {kind} generated always as (lower(x)) stored)",
        "create view shown as select * from sums",
        "insert into sums (id, x) values (1, 'Old old')",
    )
    answer("data", "replace", "old", "new", "--table", "sums", "--yes")
    assert database.rows("select x, y from shown") == [("Old new", "old new")]


@pytest.mark.parametrize(
    ("old", "new", "value", "expected"),
    [
        ("é", "è", '{"a":"\\u00E9é"}', '{"a":"\\u00E8è"}'),
        ("//", "-", '["\\/\\/"]', '["-"]'),
        ('"', "'", 'say "x" or \'{"a":"\\""}\'', "say 'x' or '{'a':'\\''}'"),
        ("100%_", "!", "100%_ 100xx", "! 100xx"),
        ("old", "", "a old b", "a  b"),
        ("\U0001f600", "x", '["\\ud83d\\ude00"]', '["x"]'),
    ],
)
def test_special_characters(database, answer, old, new, value, expected):
    if '"\\u00E8è"' in expected:
        expected = '{"a":"èè"}'  # both forms occurred: a new character has the form of none of them
    insert(database, 101, "x", value, "", None)
    answer("data", "replace", old, new, "--table", "items", "--yes")
    assert read_values(database)[101] == expected


def test_text_after_a_nul_is_replaced(database, answer):
    if database.engine == "postgresql":
        pytest.skip("it stores no NUL")
    private = f'O:1:"A":1:{{s:6:"\0A\0url";s:18:"{OLD}";}}'
    for number, value in enumerate(["x\0" + OLD, private, "a\0b"], 101):
        as_text = "cast(x'{}' as text)" if database.engine == "sqlite" else "_utf8mb4 x'{}'"
        database.run(
            f"insert into items (id, value) values ({number}, {as_text.format(value.encode().hex())})"
        )
    before = database.content()
    answer("data", "replace", OLD, NEW, "--yes")
    values = read_values(database)
    assert [values[number] for number in (101, 102, 103)] == [
        "x\0" + NEW,
        private.replace(OLD, NEW).replace("s:18", "s:22"),
        "a\0b",
    ]
    answer("undo", str(answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]), "--yes")
    assert database.content() == before


@pytest.mark.parametrize(
    ("words", "status"), [(("", "x"), 2), (("x", "x"), 2), (("a\0", "b"), 2), (("a", "b\udcff"), 2)]
)
def test_invalid_texts_are_refused(database, answer, words, status):
    answer("data", "replace", *words, "--yes", status=status)


def test_missing_tables_and_columns_are_refused(database, answer):
    assert (
        answer("data", "replace", "a", "b", "--table", "itms", status=5)["error"]["code"] == "table-missing"
    )
    assert (
        answer("data", "replace", "a", "b", "--skip", "items.valu", status=2)["error"]["code"]
        == "column-missing"
    )
    assert answer("data", "replace", "nowhere", "x", "--yes")["data"]["replaced"] == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_arrays_are_not_changed(database, answer):
    database.run(
        "create table lists (id int primary key, a text[], b varchar(9)[], c json[], d xml[])",
        "insert into lists values (1, '{axb,axb}', '{axb}', '{\"\\\"axb\\\"\"}', '{axb}')",
    )
    before = database.content()
    result = answer("data", "replace", "x", "x,y", "--table", "lists", "--yes")
    assert database.content() == before
    assert find_remaining(result) == {("lists", name, "type"): 1 for name in "abcd"}
