"""Learning from a changed setting: the table with its key and value, or the column of one row."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing

import pytest

from dbctl.files import toml
from tests import servers
from tests.databases import empty_database

SCHEMA = """
    create table users (id integer primary key, username text not null unique, password text not null);
    create table site (id integer primary key, title text not null, uploads integer not null, changed_at text);
    create table audit_log (id integer primary key, action text not null);
    insert into users values (1, 'root', '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy');
    insert into site values (1, 'Home', 100, '2026-01-01T00:00:00.000Z');
"""
ROWS = """
    create table settings (name text primary key, value text);
    insert into settings values ('theme', 'dark'), ('language', 'en');
"""


@pytest.fixture
def demonstrate(answer, tmp_path):
    """Learn from statements that change a setting; return the result and the sections about settings."""

    def run(*statements: str, schema=SCHEMA, status=0, options=()):
        files, profile = [tmp_path / "before.db", tmp_path / "after.db"], tmp_path / "app.toml"
        for file, script in zip(files, (schema, schema + ";".join(statements)), strict=True):
            file.unlink(missing_ok=True)
            with closing(sqlite3.connect(file)) as connection:
                connection.executescript(script)
        words = ["--before", str(files[0]), "--after", str(files[1]), "--login", "root", "--to", str(profile)]
        result = answer("profiles", "learn", "change-setting", *words, *options, status=status)
        return result, toml.loads(profile.read_text()).get("settings", []) if status == 0 else []

    return run


def test_row_with_key_is_setting(demonstrate):
    _, sections = demonstrate(
        "update settings set value = 'light' where name = 'theme'", schema=SCHEMA + ROWS
    )
    assert [(section["table"], section["key"], section["fields"]["value"]) for section in sections] == [
        ("settings", "name", "value")
    ]


def test_column_of_one_row_is_setting(demonstrate):
    _, sections = demonstrate("update site set uploads = 200, changed_at = '2026-02-01T00:00:00.000Z'")
    (section,) = [section for section in sections if section["table"] == "site"]
    assert section["row"] == {"key": "id", "value": 1, "types": {"uploads": "integer"}}


def test_second_column_extends_section(demonstrate):
    demonstrate("update site set uploads = 200")
    _, sections = demonstrate("update site set title = 'Start'")
    (section,) = [section for section in sections if section["table"] == "site"]
    assert section["row"]["types"] == {"uploads": "integer", "title": "string"}


def test_learned_setting_is_changed_by_command(demonstrate, answer, tmp_path):
    demonstrate("update site set uploads = 200")
    options = ["--profile", str(tmp_path / "app.toml"), "--url", str(tmp_path / "before.db")]
    answer("settings", "set", "uploads", "300", "--yes", *options)
    with closing(sqlite3.connect(tmp_path / "before.db")) as connection:
        assert connection.execute("select uploads from site").fetchall() == [(300,)]


THEME = "update settings set value = 'light' where name = 'theme'"
OWN = """
    create table user_settings (id integer primary key, user_id integer not null references users (id), name text not null,
      value text, unique (user_id, name));
    insert into user_settings values (1, 1, 'theme', 'dark'), (2, 1, 'zone', 'UTC');
"""


@pytest.mark.parametrize(
    ("schema", "statement", "setting", "value", "command", "shown"),
    [
        (ROWS, THEME, "theme", "light", "settings set -- theme light", "system values as string"),
        (
            "",
            "update site set uploads = 200",
            "uploads",
            "200",
            "settings set -- uploads 200",
            "system column uploads",
        ),
        (
            OWN,
            THEME.replace("settings", "user_settings"),
            "theme",
            "light",
            "settings set --user=root -- theme light",
            "user values as string",
        ),
    ],
)
def test_named_setting_is_proven_by_command(
    demonstrate, answer, tmp_path, schema, statement, setting, value, command, shown
):
    options = ("--setting", setting, "--value", value)
    demonstrate(statement, schema=SCHEMA + schema, options=options)
    proved = answer("profiles", "prove", str(tmp_path / "app.toml"))["data"]
    (replay,) = proved["recordings"]
    assert (replay["status"], replay["command"], replay["rows"]) == ("proven", command, 1)
    proofs = toml.loads((tmp_path / "app.toml").read_text())["proven"]["sqlite"]
    assert proofs.keys() == {"change-setting"}
    assert proofs["change-setting"]["shown"] == replay["shown"] == [shown]


def test_other_value_than_that_of_demonstration_is_not_proven(demonstrate, answer, tmp_path):
    demonstrate(THEME, schema=SCHEMA + ROWS, options=("--setting", "theme", "--value", "blue"))
    (replay,) = answer("profiles", "prove", str(tmp_path / "app.toml"), status=4)["data"]["recordings"]
    (difference,) = replay["differences"]
    assert (difference["column"], difference["recorded"], difference["replayed"]) == (
        "value",
        '"light"',
        '"blue"',
    )


@pytest.fixture
def prove(answer, tmp_path):
    """Replay the recordings of the profile, and return the only one."""

    def run(status=0):
        (replay,) = answer("profiles", "prove", str(tmp_path / "app.toml"), status=status)["data"][
            "recordings"
        ]
        return replay

    return run


@pytest.mark.parametrize(
    ("schema", "statement", "note", "command"),
    [
        (ROWS, THEME, 'theme with the new value "light"', "settings set -- theme light"),
        (
            ROWS,
            "update settings set value = '' where name = 'theme'",
            'theme with the new value ""',
            "settings set -- theme ",
        ),
        (
            "",
            "update site set uploads = 200",
            "uploads with the new value 200",
            "settings set -- uploads 200",
        ),
        (
            OWN,
            THEME.replace("settings", "user_settings"),
            'theme with the new value "light"',
            "settings set --user=root -- theme light",
        ),
    ],
)
def test_setting_is_named_by_the_states(demonstrate, prove, schema, statement, note, command):
    learned, _ = demonstrate(statement, schema=SCHEMA + schema)
    assert learned["data"]["learned_notes"] == [f"the states show the setting {note}"]
    replay = prove()
    assert (replay["status"], replay["command"], replay["rows"]) == ("proven", command, 1)


TYPED = """\
schema = "dbctl.profile/1"
name = "app"
title = "App"

[databases.main]
engines = ["sqlite"]
needs = ["users"]

[users]
table = "users"
id = { column = "id", codec = "autoincrement" }
login = ["username"]
fields = { username = "username" }
admin = false

[[settings]]
scope = "system"
table = "options"
fields = { value = "val" }
variant = [{ key = ["part", "word"], type = "form", types = { flag = "boolean", list = "json", text = "string" } }]
true = "1"
false = "0"
secret = ["mail.*"]

[[settings]]
scope = "user"
table = "users"
user = "id"
object = true
fields = { value = "preferences" }
"""
TYPED_SCHEMA = f"""{SCHEMA}
    create table options (part text, word text, form text not null, val text, primary key (part, word));
    insert into options values ('mail', 'on', 'flag', '0'), ('site', 'days', 'list', '[1, 2]'), ('mail', 'key', 'text', 'k-1');
    alter table users add preferences text;
    update users set preferences = '{{"zone":"UTC"}}';
"""


@pytest.mark.parametrize(
    ("statement", "command", "shown", "note"),
    [
        (
            "update options set val = '1' where part = 'mail' and word = 'on'",
            "settings set -- mail.on ***",
            "system values as boolean",
            '"***"',
        ),
        (
            "update options set val = '[1, 2, 3]' where word = 'days'",
            "settings set -- site.days [1, 2, 3]",
            "system values as json",
            "[1, 2, 3]",
        ),
        (
            'update users set preferences = \'{"zone":"CET"}\'',
            "settings set --user=root -- zone CET",
            "user values as json",
            '"CET"',
        ),
    ],
)
def test_setting_of_known_section_is_named_by_the_states(
    demonstrate, prove, tmp_path, statement, command, shown, note
):
    (tmp_path / "app.toml").write_text(TYPED)
    learned, _ = demonstrate(statement, schema=TYPED_SCHEMA)
    assert learned["data"]["lines"] == []
    (remark,) = learned["data"]["learned_notes"]
    assert remark.endswith(f"with the new value {note}")
    replay = prove()
    assert (replay["status"], replay["command"], replay["shown"]) == ("proven", command, [shown])


def test_value_without_a_text_is_not_replayed(demonstrate, prove):
    learned, _ = demonstrate("update settings set value = null where name = 'theme'", schema=SCHEMA + ROWS)
    assert learned["data"]["learned_notes"] == []
    replay = prove()
    assert replay["status"] == "not-possible"
    assert "--setting" in replay["reason"]


def test_value_of_secret_setting_is_in_no_output(demonstrate, prove, tmp_path):
    rows = "insert into settings values ('smtp_password', 'first');"
    demonstrate(
        "update settings set value = 'k-9' where name = 'smtp_password'",
        schema=SCHEMA + ROWS + rows,
        options=("--setting", "smtp_password", "--value", "k-8"),
    )
    profile = tmp_path / "app.toml"
    assert toml.loads(profile.read_text())["settings"][0]["secret"] == ["smtp_password"]
    replay = prove(status=4)
    assert replay["command"] == "settings set -- smtp_password ***"
    assert [(item["recorded"], item["replayed"]) for item in replay["differences"]] == [("***", "***")]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_setting_of_running_app_is_named_and_proven(answer, tmp_path, engine):
    with empty_database(engine, tmp_path / "live.db") as database:
        database.run(*(SCHEMA + ROWS).strip().rstrip(";").split(";"))
        program = "sqlite3" if engine == "sqlite" else "psql -q"
        option = "-c" if engine == "postgresql" else ""
        action = f"{program} {shlex.quote(database.url)} {option} {shlex.quote(THEME)}"
        profile = tmp_path / "app.toml"
        words = ["--watch", "0", "--after", action, "--to", str(profile)]
        answer("--url", database.url, "profiles", "learn", "change-setting", *words)
        server = ["--url", str(servers.postgresql())] if engine == "postgresql" else []
        (replay,) = answer(*server, "profiles", "prove", str(profile))["data"]["recordings"]
        assert (replay["status"], replay["command"]) == ("proven", "settings set -- theme light")


def test_other_setting_than_the_named_one_is_refused(demonstrate):
    refused, _ = demonstrate(
        THEME, schema=SCHEMA + ROWS, status=4, options=("--setting", "language", "--value", "light")
    )
    assert refused["error"]["code"] == "demonstration-wrong"


@pytest.mark.parametrize(
    "words", [("change-setting", "--setting", "theme"), ("deactivate", "--setting", "theme", "--value", "x")]
)
def test_setting_and_value_belong_to_change_setting(answer, tmp_path, words):
    error = answer("profiles", "learn", *words, "--to", str(tmp_path / "app.toml"), status=2)["error"]
    assert error["message"].startswith("--setting and --value: ")


def test_second_table_of_same_scope_stays_open(demonstrate):
    learned, sections = demonstrate("update site set uploads = 200", schema=SCHEMA + ROWS)
    assert [section["table"] for section in sections] == ["settings"]
    assert len(learned["data"]["decisions"]) == 1


def test_several_changed_rows_are_refused(demonstrate):
    refused, _ = demonstrate("update settings set value = 'x'", schema=SCHEMA + ROWS, status=4)
    assert refused["error"]["code"] == "demonstration-wrong"


def test_row_of_log_is_unrelated(demonstrate):
    learned, _ = demonstrate(
        "update site set uploads = 200", "insert into audit_log values (1, 'changed uploads')"
    )
    assert [text.partition(":")[0] for text in learned["data"]["unrelated"]] == ["audit_log"]
