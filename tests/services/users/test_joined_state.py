"""Users whose active state is in another table: commands read and write it, and no path deactivates the last admin."""

from __future__ import annotations

import pytest

from tests.databases import empty_database

PROFILE = """\
schema = "dbctl.profile/1"
name = "choir"
title = "Choir"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
foreign_keys = false
[users]
table = "singers"
id = {{ column = "code", codec = "given" }}
login = ["username"]
admin = "lead"
role = {{ column = "part", values = ["lead", "alto"] }}
{more}
[users.fields]
username = "code"
[users.joined]
active = {{ {joined} }}
[users.active]
values = {values}
{inactive}
"""
FORMS = {
    "written": {
        "more": "",
        "joined": 'table = "choices", column = "content", user = "singer", only = { topic = "state" }',
        "values": '["on", ":null"]',
        "inactive": 'inactive = "off"',
    },
    "owner": {
        "more": 'only_app_deactivates = "it also sends a letter"',
        "joined": (
            'table = "bans", column = "kind", user = "target", expires_at = "until", only = { kind = 1 },'
            ' owner = { table = "targets", key = "id", user = "singer" }'
        ),
        "values": '[":null"]',
        "inactive": "",
    },
    "only the app": {
        "more": 'only_app_deactivates = "it also sends a letter"',
        "joined": 'table = "choices", column = "content", user = "singer", only = { topic = "ban" }, expires_at = "until"',
        "values": '[":null"]',
        "inactive": "",
    },
}
DDL = [
    "create table singers (code varchar(20) primary key, part varchar(20) not null)",
    (
        "create table choices (singer varchar(20) not null, topic varchar(20) not null, content varchar(20),"
        " until varchar(20), level integer not null default 7, primary key (singer, topic))"
    ),
    "create table targets (id integer primary key, singer varchar(20))",
    "create table bans (id integer primary key, target integer not null, kind integer not null, until varchar(20))",
    "insert into targets values (11, 'bob'), (12, 'cy'), (13, null), (14, 'di'), (15, 'ada')",
    (
        "insert into bans values (1, 11, 1, 'infinity'), (2, 12, 1, '20200101000000'), (3, 13, 1, 'infinity'),"
        " (4, 14, 1, '99990101000000'), (5, 14, 1, '20200101000000'), (6, 15, 0, 'infinity')"
    ),
    "insert into singers values ('ada', 'lead'), ('bob', 'lead'), ('cy', 'alto'), ('di', 'alto')",
    (
        "insert into choices (singer, topic, content, until) values ('bob', 'state', 'off', null), ('bob', 'tone', 'off', null),"
        " ('cy', 'tone', 'off', null), ('di', 'state', 'on', null),"
        " ('bob', 'ban', 'x', 'infinity'), ('cy', 'ban', 'x', '20200101000000'), ('di', 'ban', 'x', '99990101000000')"
    ),
]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def create_app(request, tmp_path, monkeypatch):
    """Return a function that writes a configuration with the profile of a form, and returns the database."""
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "choir.db") as database:

        def create(form):
            (tmp_path / "choir.toml").write_text(PROFILE.format(**FORMS[form]), encoding="utf-8")
            (tmp_path / "dbctl.toml").write_text(
                f"[apps.choir]\nprofile = 'choir.toml'\n[apps.choir.databases]\nmain = '{database.url}'\n",
                encoding="utf-8",
            )
            database.run(*DDL)
            return database

        yield create


def list_active(answer, *options):
    return {user["login"]: user["active"] for user in answer("users", "list", *options)["data"]["items"]}


def test_state_in_another_table_is_read_and_written(answer, create_app):
    database = create_app("written")
    assert answer("apps", "check")["data"]["findings"] == []
    assert list_active(answer) == {"ada": True, "bob": False, "cy": True, "di": True}
    assert list_active(answer, "--active") == {"ada": True, "cy": True, "di": True}
    assert list_active(answer, "--no-active") == {"bob": False}
    planned = answer("users", "deactivate", "cy", "di", "--dry-run")["data"]["plan"]
    assert planned["rows"] == {"choices": 2}
    answer("users", "deactivate", "cy", "di")
    stored = "select singer, content, level from choices where topic = 'state' order by singer"
    assert [tuple(row) for row in database.rows(stored)] == [
        ("bob", "off", 7),
        ("cy", "off", 7),
        ("di", "off", 7),
    ]
    answer("users", "activate", "cy", "ada")  # ada is active without a row
    assert [tuple(row)[:2] for row in database.rows(stored)] == [("bob", "off"), ("cy", "on"), ("di", "off")]


def test_last_admin_who_is_active_in_another_table_remains(answer, create_app):
    database = create_app("written")
    for words in (
        ("users", "deactivate", "ada"),
        ("users", "set-role", "ada", "alto"),
        ("users", "delete", "ada", "--yes"),
        ("data", "add", "choices", "singer=ada", "topic=state", "content=off"),
    ):
        assert answer(*words, status=6)["error"]["code"] == "last-admin", words
    answer("users", "activate", "bob")
    answer("users", "deactivate", "ada")
    words = ("data", "set", "choices", "bob", "state", "content=off")
    assert answer(*words, status=6)["error"]["code"] == "last-admin"
    assert database.rows("select content from choices where singer = 'bob' and topic = 'state'")[0][0] == "on"


@pytest.mark.parametrize("form", ["only the app", "owner"])
def test_state_that_only_the_app_changes_is_read(answer, create_app, form):
    create_app(form)
    assert answer("apps", "check")["data"]["findings"] == []
    assert list_active(answer) == {"ada": True, "bob": False, "cy": True, "di": False}
    assert list_active(answer, "--no-active") == {"bob": False, "di": False}
    for command, login in (("deactivate", "cy"), ("activate", "bob")):
        error = answer("users", command, login, status=2)["error"]
        assert error["code"] == "not-supported"
        assert "it also sends a letter" in error["hint"]
    assert answer("users", "set-role", "ada", "alto", status=6)["error"]["code"] == "last-admin"


def test_end_of_rows_requires_a_state_that_only_the_app_changes(answer, create_app, tmp_path):
    create_app("only the app")
    path = tmp_path / "choir.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("only_app_deactivates", "only_app_deletes"), encoding="utf-8"
    )
    (finding,) = answer("apps", "check", status=2)["data"]["findings"]
    assert "users.joined.active.expires_at" in finding["message"]


@pytest.mark.parametrize("create_app", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("action", "is_refused"), [("set null", True), ("cascade", True), ("restrict", False)]
)
def test_profile_that_contradicts_roles_cannot_write_tables_with_the_state(
    answer, create_app, tmp_path, action, is_refused
):
    """Nor tables whose foreign keys change their rows; only other tables can be written."""
    database = create_app("written")
    database.run(
        "create table halls (id integer primary key, name varchar(9))",
        f"alter table choices add hall integer references halls (id) on delete {action}",
        "create table songs (id integer primary key, name varchar(9))",
        "insert into halls values (1, 'old')",
        "update singers set part = 'tenor'",
    )
    words = ("data", "set", "choices", "cy", "tone", "content=on")
    assert answer(*words, status=6)["error"]["code"] == "role-form"
    words = ("data", "set", "halls", "1", "name=new")
    if is_refused:
        assert answer(*words, status=6)["error"]["code"] == "role-form"
    else:
        answer(*words)
    assert database.rows("select name from halls") == [("old" if is_refused else "new",)]


@pytest.mark.parametrize("create_app", ["sqlite"], indirect=True)
def test_profile_that_contradicts_roles_cannot_undo_a_change_of_several_tables(
    answer, create_app, tmp_path, monkeypatch
):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    database = create_app("written")
    database.run("create table songs (id integer primary key, name varchar(9))")
    song, state = (
        '{"table": "songs", "row": {"id": 1}}\n',
        '{"table": "choices", "row": {"singer": "cy", "topic": "hat"}}\n',
    )
    for text in (song, song.replace("1", "2") + state):
        (tmp_path / "rows.jsonl").write_text(text)
        answer("data", "import", "rows.jsonl")
    database.run("update singers set part = 'tenor'")
    second, first = (str(item["operation"]) for item in answer("audit", "list")["data"]["items"])
    assert answer("undo", second, "--yes", status=6)["error"]["code"] == "role-form"
    answer("undo", first, "--yes")
    assert database.rows("select id from songs") == [(2,)]


def test_login_that_is_the_key_of_a_user_is_not_changed(answer, create_app):
    database = create_app("written")
    for login in ("eve", "CY"):
        error = answer("users", "update", "cy", "--set", f"username={login}", status=2)["error"]
        assert (error["code"], "username is the key" in error["message"]) == ("usage", True)
    assert database.rows("select code from singers order by code") == [("ada",), ("bob",), ("cy",), ("di",)]


@pytest.mark.parametrize(
    ("form", "more", "is_offered"),
    [("written", "", True), ("written", 'active = "part"\n', False), ("only the app", "", False)],
)
@pytest.mark.parametrize("create_app", ["sqlite"], indirect=True)
def test_deletion_that_only_the_app_can_do_offers_a_possible_deactivation(
    answer, create_app, tmp_path, form, more, is_offered
):
    database = create_app(form)
    path = tmp_path / "choir.toml"
    text = path.read_text(encoding="utf-8").replace(
        "[users.fields]", 'only_app_deletes = "it closes the account"\n[users.fields]'
    )
    if more:  # no state at all
        text = text[: text.index("[users.joined]")]
    path.write_text(text, encoding="utf-8")
    error = answer("users", "delete", "cy", "--yes", status=2)["error"]
    assert (error["code"], "it closes the account" in error["hint"]) == ("not-supported", True)
    assert ("dbctl users deactivate" in error["hint"]) is is_offered
    assert len(database.rows("select code from singers")) == 4


@pytest.mark.parametrize("create_app", ["sqlite"], indirect=True)
def test_given_keys_are_required(answer, create_app, tmp_path):
    database = create_app("written")
    answer("users", "create", "eve", "--role", "alto")
    path = tmp_path / "choir.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('username = "code"', 'username = "part"'))
    error = answer("users", "create", "eve", status=2)["error"]
    assert (error["code"], "code" in error["message"]) == ("schema-mismatch", True)
    assert database.rows("select part from singers where code = 'eve'") == [("alto",)]


@pytest.mark.parametrize("create_app", ["sqlite"], indirect=True)
def test_app_without_rows_to_transfer_refuses_a_new_owner(answer, create_app):
    database = create_app("written")
    error = answer("users", "delete", "cy", "--transfer-to", "ada", "--yes", status=2)["error"]
    assert (error["code"], "transfer of rows" in error["message"]) == ("feature-missing", True)
    assert len(database.rows("select code from singers")) == 4
