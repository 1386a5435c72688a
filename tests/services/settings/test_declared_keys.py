"""Settings without a column for their type: types, schemas and stored forms are declared by the profile."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.services.settings import encodings
from tests.databases import empty_database

ENGINES = ("sqlite", "postgresql", "mysql")
PROFILE = """
schema = "dbctl.profile/1"
name = "forge"
title = "Forge"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["options"]
[[settings]]
scope = "system"
table = "options"
key = "name"
fields = {{ value = "value" }}
{settings}
"""
PHP = """
open = true
stored = "php"
true = "1"
false = "0"
[settings.keys]
public = { type = "boolean", default = true }
limit = { type = "integer", schema = '{"maximum": 9}', description = "Rows of a page" }
"mail_*" = { format = "email" }
"""
JSON = """
open = true
stored = "json"
[settings.keys]
zone = { format = "time-zone" }
raw = { type = "string", stored = "text" }
shape = { schema = '{"type": "object", "required": ["a"]}' }
"""
YAML = """
stored = "yaml"
[settings.keys]
title = { type = "string" }
open = { type = "boolean" }
days = {}
"""


@pytest.fixture(params=ENGINES)
def options(request, tmp_path, monkeypatch):
    """Return a function that declares the settings, and stores the values by key."""
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "forge.db") as db:
        db.run("create table options (name varchar(99) primary key, value varchar(999))")

        def declare(settings: str, **stored: str):
            path = tmp_path / f"{uuid.uuid4()}.toml"
            path.write_text(PROFILE.format(settings=settings))
            (tmp_path / "dbctl.toml").write_text(
                f'[apps.forge]\nprofile = "{path}"\n[apps.forge.databases]\nmain = "{db.url}"\n'
            )
            db.run(
                "delete from options",
                *(
                    "insert into options values ('{}', '{}')".format(key, value.replace("'", "''"))
                    for key, value in stored.items()
                ),
            )
            return lambda: dict(db.rows("select name, value from options"))

        yield declare


def read(answer) -> dict[str, object]:
    return {item["key"]: item["value"] for item in answer("settings", "list")["data"]["items"]}


def test_serialized_arrays_of_php(answer, options):
    stored = options(
        PHP, public="1", limit="5", plugins='a:2:{i:0;s:3:"a/b";i:1;s:4:"öü";}', cron='a:1:{s:1:"a";O:1:"X":0:{}}',
        broken='s:9:"abc";', mail_from="a@x.example", title="i: think so",
    )  # fmt: skip
    assert answer("apps", "check")["data"]["findings"] == []
    assert read(answer) == {
        "public": True, "limit": 5, "plugins": ["a/b", "öü"], "cron": 'a:1:{s:1:"a";O:1:"X":0:{}}', "broken": 's:9:"abc";',
        "mail_from": "a@x.example", "title": "i: think so",
    }  # fmt: skip
    answer("settings", "set", "plugins", '["ä", {"on": true, "3": 1.5}]')
    answer("settings", "set", "public", "off")
    answer("settings", "set", "new", "true")
    assert (stored()["plugins"], stored()["public"], stored()["new"]) == (
        'a:2:{i:0;s:2:"ä";i:1;a:2:{s:2:"on";b:1;i:3;d:1.5;}}', "0", "true",
    )  # fmt: skip
    before = stored()
    deep = f"{'[' * 65}{']' * 65}"
    for key, value in (
        ("cron", "{}"), ("broken", "x"), ("limit", "10"), ("limit", "x"), ("mail_from", "nobody"), ("title", "s:1:2"), ("plugins", "{"), ("plugins", "x"), ("plugins", "5"),
        ("plugins", "[9223372036854775808]"), ("plugins", "[-9223372036854775809]"), ("plugins", deep),
    ):  # fmt: skip
        assert answer("settings", "set", key, value, status=2)["error"]["code"] == "value-invalid"
    assert answer("settings", "reset", "limit", status=2)["error"]["code"] == "value-invalid"
    Path("null.json").write_text('{"title": null}')
    assert answer("settings", "apply", "null.json", status=2)["error"]["code"] == "value-invalid"
    assert stored() == before
    answer("settings", "set", "plugins", f"[9223372036854775807, {deep[2:-2]}]")
    assert read(answer)["plugins"] == [9223372036854775807, json.loads(deep[2:-2])]
    answer("settings", "reset", "public")
    assert stored()["public"] == "1"
    (detail,) = [item for item in answer("settings", "list")["data"]["items"] if item["key"] == "cron"]
    assert (detail["read_only"], answer("settings", "get", "limit")["data"]["description"]) == (
        True,
        "Rows of a page",
    )


@pytest.mark.parametrize(
    ("engine", "column", "fits", "value"),
    [
        ("postgresql", "jsonb", '{"a": 1}', "x"),
        ("postgresql", "varchar(8)", "12345678", "123456789"),
        ("mysql", "varchar(8)", "12345678", "123456789"),
    ],
)
def test_value_that_the_column_cannot_store_is_refused_in_the_plan(
    answer, tmp_path, monkeypatch, engine, column, fits, value
):
    monkeypatch.chdir(tmp_path)
    with empty_database(engine, tmp_path / "forge.db") as db:
        (tmp_path / "forge.toml").write_text(PROFILE.format(settings="open = true"))
        db.run(f"create table options (name varchar(99) primary key, value {column})")
        options = ("--profile", "forge.toml", "--url", f"main={db.url}")
        answer("settings", "set", "key", fits, *options)
        error = answer("settings", "set", "key", value, "--dry-run", *options, status=2)["error"]
        assert (error["code"], error["message"][:5]) == ("value-invalid", "key =")


@pytest.mark.parametrize("stored_value", [{}, {"version": '"7"'}])
def test_excluded_key_is_no_key_of_a_setting(answer, options, stored_value):
    stored = options('excluded = ["version"]' + JSON, **stored_value)
    error = answer("settings", "set", "version", "8", status=2)["error"]
    assert (error["code"], "'version'" in error["message"]) == ("value-invalid", True)
    assert stored() == stored_value


def test_values_in_json(answer, options):
    stored = options(JSON, zone='"Europe/Berlin"', keep="180", raw="$2a$10$x", odd="plain", shape='{"a": 1}')
    assert read(answer) == {
        "zone": "Europe/Berlin",
        "keep": 180,
        "raw": "$2a$10$x",
        "odd": "plain",
        "shape": {"a": 1},
    }
    for key, value, text in (
        ("zone", "Europe/Rome", '"Europe/Rome"'), ("keep", "90", "90"), ("raw", "new", "new"), ("shape", '{"a": [1]}', '{"a": [1]}'),
        ("list", "[7, 14]", "[7, 14]"),
    ):  # fmt: skip
        answer("settings", "set", key, value)
        assert json.loads(stored()[key]) == json.loads(text) if key != "raw" else stored()[key] == text
    for key, value in (("odd", "x"), ("shape", "{}"), ("zone", "Moon"), ("keep", '{"a"')):
        assert answer("settings", "set", key, value, status=2)["error"]["code"] == "value-invalid"


def test_simple_yaml(answer, options):
    stored = options(YAML, title="--- My forge\n", days="---\n- '1'\n- 2\n", tags="--- !ruby/hash:X\na: 1\n")
    assert read(answer) == {"title": "My forge", "days": ["1", 2], "tags": "--- !ruby/hash:X\na: 1\n"}
    for key, value in (("title", "It's: new"), ("days", '["3", true]'), ("open", "yes")):
        answer("settings", "set", key, value)
    assert stored() == {
        "title": "--- 'It''s: new'\n", "days": "---\n- '3'\n- true\n", "open": "--- true\n", "tags": "--- !ruby/hash:X\na: 1\n",
    }  # fmt: skip
    for key, value in (("tags", "x"), ("days", '{"a": 1}'), ("title", "")):
        assert answer("settings", "set", key, value, status=None)["exit_code"] in (0, 2)
    assert answer("settings", "set", "other", "x", status=5)["error"]["code"] == "setting-missing"
    assert stored()["title"] == "--- ''\n"
    options(YAML, title="My forge", days="[1]", more="--- x")
    assert [finding["code"] for finding in answer("apps", "check", status=4)["data"]["findings"]] == [
        "stored-form"
    ]


TEXTS = st.text(st.characters(codec="utf-8"))
#: Values of settings; YAML has only scalars and lists of scalars.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(TEXTS.filter(bool), inner, min_size=1),
    max_leaves=9,
)


def test_value_of_many_levels_is_shown_as_text(answer, options):
    deep = f"{'[' * 490}1{']' * 490}"
    stored = options(JSON, many=deep, few="[1]")
    assert read(answer) == {"many": deep, "few": [1]}
    assert answer("settings", "get", "many")["data"]["read_only"]
    assert answer("settings", "set", "few", deep, status=2)["error"]["code"] == "value-invalid"
    assert stored() == {"many": deep, "few": "[1]"}


@given(st.lists(TREES, min_size=1))
def test_php_arrays_are_read_as_they_were_written(value):
    assert as_php(encodings.decode("php", encodings.encode("php", value))) == as_php(value)


def as_php(value: object) -> object:
    """Return a value with lists as PHP has them: arrays with the keys 0, 1, 2."""
    if isinstance(value, list):
        return {str(key): as_php(item) for key, item in enumerate(value)}
    return {key: as_php(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(SCALARS | st.lists(SCALARS))
def test_yaml_is_read_as_it_was_written(value):
    yaml = pytest.importorskip("yaml")
    text = encodings.encode("yaml", value)
    assert encodings.decode("yaml", text) == value
    assert yaml.safe_load(text) == value


@given(st.text(alphabet="abdisON:;{}\"0123456789-. \n'[]~#&*!|>", max_size=60))
def test_no_text_is_read_as_more_than_it_is(text):
    for form in ("php", "yaml", "json"):
        try:
            encodings.decode(form, text)
        except ValueError:
            continue


WRONG = [
    ('[settings.keys]\na = { schema = "{" }', "keys"),
    ('[settings.keys]\na = { type = "word" }', "keys"),
    ('stored = "php"\nvariant = [{ key = "name", type = "kind", types = {} }]', "stored"),
    (
        'variant = [{ key = "name", type = "kind", types = {} }]\n[settings.keys]\na = { type = "string" }',
        "keys",
    ),
]


@pytest.mark.parametrize(("settings", "key"), WRONG)
def test_wrong_keys_are_reported(answer, tmp_path, settings, key):
    (tmp_path / "wrong.toml").write_text(PROFILE.format(settings=settings))
    findings = answer("apps", "check", str(tmp_path / "wrong.toml"), status=2)["data"]["findings"]
    assert f"settings[0].{key}" in findings[0]["message"]


def test_user_object_obeys_types_and_schemas(answer, tmp_path, monkeypatch):
    import sqlite3
    from contextlib import closing

    monkeypatch.chdir(tmp_path)
    profile = (
        PROFILE.partition("[[settings]]")[0].replace('"options"', '"people"')
        + """
[users]
admin = false
table = "people"
id = { column = "id" }
login = ["username"]
fields = { username = "login" }
[[settings]]
scope = "user"
table = "people"
user = "id"
object = true
fields = { value = "prefs" }
[settings.keys]
rows = { type = "integer", schema = '{"minimum": 5}', default = 20 }
theme = { values = ["dark", "light"] }
"""
    )
    (tmp_path / "forge.toml").write_text(profile)
    with closing(sqlite3.connect("forge.db")) as db, db:
        db.execute("create table people (id integer primary key, login text, prefs text)")
        # apps that cut a text in the middle of an emoji store half of a surrogate pair
        db.execute("insert into people values (1, 'ann', ?)", [r'{"bio": "\ud83d"}'])
    (tmp_path / "dbctl.toml").write_text(
        '[apps.forge]\nprofile = "forge.toml"\n[apps.forge.databases]\nmain = "forge.db"\n'
    )
    for key, value, status in (
        ("rows", "9", 0), ("rows", "4", 2), ("rows", "x", 2), ("theme", "dark", 0), ("theme", "red", 2), ("other", "[1]", 0),
    ):  # fmt: skip
        answer("settings", "set", key, value, "--user", "ann", status=status)
    with closing(sqlite3.connect("forge.db")) as db:
        assert json.loads(db.execute("select prefs from people").fetchone()[0]) == {
            "bio": "\ud83d",
            "rows": 9,
            "theme": "dark",
            "other": [1],
        }


def test_settings_of_objects(answer, tmp_path, monkeypatch):
    import sqlite3
    from contextlib import closing

    monkeypatch.chdir(tmp_path)
    scope = 'of = { table = "sites", name = "title" }\nuser = "site"\nstored = "json"'
    (tmp_path / "forge.toml").write_text(
        PROFILE.format(settings=scope).replace('scope = "system"', 'scope = "object"')
    )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.forge]\nprofile = "forge.toml"\n[apps.forge.databases]\nmain = "forge.db"\n'
    )
    with closing(sqlite3.connect("forge.db")) as db, db:
        db.execute("create table sites (id integer primary key, title text)")
        db.execute("create table options (site integer, name text, value text, unique (site, name))")
        db.execute("insert into sites values (1, 'Home'), (2, 'Blog'), (3, 'Blog')")
        db.execute("insert into options values (2, 'days', '9')")
    assert answer("apps", "check")["data"]["findings"] == []
    answer("settings", "set", "days", "7", "--of", "home")
    answer("settings", "set", "days", "8", "--of", "2")
    assert [item["value"] for item in answer("settings", "list", "--of", "1")["data"]["items"]] == [7]
    with closing(sqlite3.connect("forge.db")) as db:
        assert db.execute("select * from options order by site").fetchall() == [
            (1, "days", "7"),
            (2, "days", "8"),
        ]
    answer("settings", "reset", "days", "--of", "1")
    for words, status, code in (
        (["--of", "Shop"], 5, "object-missing"), (["--of", "Blog"], 6, "name-ambiguous"), (["--of", "1", "--user", "ann"], 2, "usage"),
        ([], 2, "feature-missing"), (["--of", "\x00"], 5, "object-missing"),
    ):  # fmt: skip
        assert answer("settings", "set", "days", "6", *words, status=status)["error"]["code"] == code
    assert answer("integrity", "check")["data"]["findings"] == []


VARIANTS = """
secret = ["*_key"]
cache = "until the app restarts"
[[settings.variant]]
key = ["grp", "name"]
type = "kind"
types = {{ text = "string" }}
[[settings.variant]]
key = "name"
type = "type"
types = {{ text = "string" }}
"""


@pytest.mark.needs_extension("copies")
def test_undo_restores_settings_of_each_variant_that_are_no_secrets(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "forge.toml").write_text(
        PROFILE.replace('key = "name"', "")
        .replace("{settings}", VARIANTS)
        .replace("{{", "{")
        .replace("}}", "}")
    )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.forge]\nprofile = "forge.toml"\n[apps.forge.databases]\nmain = "forge.db"\n'
    )
    with empty_database("sqlite", tmp_path / "forge.db") as db:
        db.run(
            "create table options (id integer primary key, name text, value text, type text)",
            "insert into options values (1, 'color', 'red', 'text'), (2, 'mail_key', 'k-1', 'text')",
        )
        before = db.content()
        warnings = answer("settings", "set", "color", "blue")["warnings"]
        assert "a running Forge may use the old value until the app restarts" in warnings
        answer("data", "replace", "blue", "green", "--yes")
        assert db.rows("select value from options where id = 1") == [("green",)]
        for position in range(2):
            changes = answer("audit", "list")["data"]["items"]
            newest = [change["operation"] for change in changes if change["command"] != "undo"]
            answer("undo", str(newest[position]), "--yes")
        assert db.content() == before
        answer("settings", "set", "mail_key", "k-2")
        number = answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]
        assert "k-2" not in json.dumps(answer("audit", "show", str(number)))
        assert answer("undo", str(number), "--yes", status=6)["error"]["code"] == "undo-impossible"
