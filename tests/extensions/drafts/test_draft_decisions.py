"""Drafts contain as active only what the data show; the rest is an open decision that refuses the commands that need it."""

from __future__ import annotations

import sqlite3
import tomllib
from contextlib import closing

import pytest

from dbctl.model import Secret
from dbctl.profiles.passwords import hash_password
from tests.databases import empty_database

HASH = hash_password(Secret("secret"), "$2b$04$")
TOKEN = "f3a9c07be1d24856aa10"
TIME = "'2026-01-01 00:00:00'"
EXPIRES = "'2030-01-01 00:00:00'"


class Shop:
    """A database of an unknown app with two users, and its draft."""

    def __init__(self, folder, answer) -> None:
        self.path, self.profile, self._answer = folder / "shop.db", folder / "shop.toml", answer
        self.options = ("--profile", str(self.profile), "--url", f"main={self.path}")
        self.users: tuple[str, ...] = ()

    def create(self, *statements: str, columns: str = "", values: tuple[str, str] = ("", "")) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                f"create table users (id integer primary key, email text not null unique, password text{columns})"
            )
            for name, more in zip(("ada", "bo"), values, strict=True):
                connection.execute(f"insert into users values (null, '{name}@example.org', '{HASH}'{more})")
            for statement in statements:
                connection.execute(statement)

    def draft(self) -> dict:
        words = ("profiles", "draft", str(self.path), "--name", "shop", "--to", str(self.profile))
        data = self._answer(*words, *self.users)
        return tomllib.loads(data["data"]["profile"])

    def run(self, *words: str, status: int | None = 0) -> dict:
        return self._answer(*words, "--yes", *self.options, status=status)

    def rows(self, sql: str) -> list:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def shop(tmp_path, answer):
    return Shop(tmp_path, answer)


SESSIONS = """create table sessions (token text primary key, user_id integer not null references users (id),
    expires_at text not null{more})"""
CHILD = """create table messages (id integer primary key, session text not null
    references sessions (token) on delete cascade)"""


@pytest.mark.parametrize(
    ("statements", "doubt"),
    [
        ([CHILD], "messages"),
        (["alter table sessions add column created_by_id integer references users (id)"], "created_by_id"),
        (["alter table sessions add column name text"], "keys"),
        (["delete from sessions"], "no rows"),
    ],
)
def test_table_is_a_table_of_sessions_only_if_its_rows_show_it(shop, statements, doubt):
    session = f"insert into sessions values ('{TOKEN}', 2, {EXPIRES})"
    shop.create(SESSIONS.format(more=""), session)
    assert [section["table"] for section in shop.draft()["users"]["signed_in"]] == ["sessions"]
    assert shop.run("users", "set-password", "bo@example.org", "--generate")["data"]["ended_sessions"] == 1
    shop.profile.unlink()
    with closing(sqlite3.connect(shop.path)) as connection, connection:
        for statement in (session, *statements):
            connection.execute(statement)
    profile = shop.draft()
    assert "signed_in" not in profile["users"]
    assert "sessions" not in profile
    assert any("sessions" in text and doubt in text for text in profile["undecided"]["sign-ins"])
    before = shop.rows("select * from sessions")
    result = shop.run("users", "set-password", "bo@example.org", "--generate")
    assert any("sessions" in warning for warning in result["warnings"])
    error = shop.run("sessions", "revoke", "bo@example.org", status=6)["error"]
    assert (error["code"], "sessions" in error["message"]) == ("decision-open", True)
    assert shop.rows("select * from sessions") == before


def test_key_of_a_program_is_no_session_by_the_name_of_its_table(shop):
    shop.create(
        "create table authtoken_token (key text primary key, created text not null, user_id integer not null references users (id))",
        f"insert into authtoken_token values ('{TOKEN}{TOKEN}', {EXPIRES}, 2)",
    )
    profile = shop.draft()
    assert "signed_in" not in profile["users"]
    assert profile["databases"]["main"]["secret"] == ["authtoken_token.key"]
    shop.run("users", "set-password", "bo@example.org", "--generate")
    assert shop.rows("select count(*) from authtoken_token") == [(1,)]


def test_sessions_without_a_user_are_a_decision(shop):
    shop.create(
        "create table session (sid text primary key, data text, expires integer)",
        f"insert into session values ('{TOKEN}', 'user|s:2:bo', 1900000000)",
    )
    assert "session" in shop.draft()["undecided"]["sign-ins"][0]
    error = shop.run("sessions", "revoke", "bo@example.org", status=6)["error"]
    assert (error["code"], "session" in error["message"]) == ("decision-open", True)


@pytest.mark.parametrize(
    ("columns", "values", "count"),
    [
        (", superadmin boolean not null", (", 1", ", 0"), "superadmin (1 of 2 are true)"),
        (", role integer not null", (", 479", ", 338"), "role (numbers: 1 of 479, 1 of 338)"),
        ("", ("", ""), "no column"),
    ],
)
def test_no_admin_is_removed_before_the_profile_defines_admins(shop, columns, values, count):
    shop.create(columns=columns + ", active boolean not null", values=(f"{values[0]}, 1", f"{values[1]}, 1"))
    profile = shop.draft()
    assert "admin" not in profile["users"]
    assert count in profile["undecided"]["admin"][0]
    findings = shop.run("apps", "check")["data"]["findings"]
    assert {"admin-undecided", "decision-open"} <= {finding["code"] for finding in findings}
    for words in ("users", "delete", "ada@example.org"), ("users", "deactivate", "ada@example.org"):
        error = shop.run(*words, status=6)["error"]
        assert (error["code"], count in error["message"]) == ("admin-undecided", True)
    raw = [("data", "delete", "users", "1"), ("data", "set", "users", "1", "active=false")]
    raw += [("data", "set", "users", "1", f"{columns.split()[1]}=0")] if columns else []
    for words in raw:
        assert shop.run(*words, status=6)["error"]["code"] == "admin-undecided"
    stored = shop.rows("select * from users")
    assert [row[1] for row in stored] == ["ada@example.org", "bo@example.org"]
    assert shop.rows("select id, active from users") == [(1, 1), (2, 1)]
    if columns:  # the values of a user who cannot sign in give no rights
        with closing(sqlite3.connect(shop.path)) as connection, connection:
            connection.execute(
                f"insert into users select 3, 'cy@example.org', password, {columns.split()[1]}, 0 from users where id = 1"
            )
        shop.run("data", "set", "users", "3", f"{columns.split()[1]}=0")
        with closing(sqlite3.connect(shop.path)) as connection, connection:
            connection.execute("delete from users where id = 3")
    shop.profile.write_text(shop.profile.read_text().replace("# admin = false", "admin = false"))
    shop.run("users", "delete", "bo@example.org")
    assert shop.rows("select id from users") == [(1,)]


def test_no_admin_is_removed_before_the_profile_defines_who_is_active(shop):
    columns = ", is_admin boolean not null, status text not null"
    shop.create(
        f"insert into users values (null, 'cy@example.org', '{HASH}', 0, 'normal')",
        columns=columns,
        values=(", 1, 'normal'", ", 1, 'banned'"),
    )
    profile = shop.draft()
    assert profile["users"]["admin"] == "admin"
    assert "status" in profile["undecided"]["active"][0]
    for words in (
        ("users", "delete", "ada@example.org"),
        ("users", "deactivate", "ada@example.org"),
        ("users", "set-role", "ada@example.org", "user"),
        ("data", "delete", "users", "1"),
        ("data", "set", "users", "1", "is_admin=0"),
    ):
        error = shop.run(*words, status=6)["error"]
        assert (error["code"], "status" in error["message"]) == ("decision-open", True)
    assert shop.rows("select id, is_admin from users") == [(1, 1), (2, 1), (3, 0)]
    shop.run("users", "delete", "cy@example.org")
    decided = shop.profile.read_text().replace("# active =", "active =")
    decided = decided.replace(
        "[users.fields]", 'active = { values = ["normal"], inactive = "banned" }\n[users.fields]'
    )
    shop.profile.write_text(decided)
    assert shop.run("users", "delete", "ada@example.org", status=6)["error"]["code"] == "last-admin"
    shop.run("users", "delete", "bo@example.org")
    assert shop.rows("select id from users") == [(1,)]


@pytest.mark.parametrize(
    "others",
    [
        ["$pbkdf2$f=SHA256,w=9,l=32$MDEyMzQ1Njc4OWFiY2RlZg$XJbPGn9WL1f5vHODkKViXOYACLPfMUAa3lJ6jC3tWi8"],
        ["$balloon$v=1$s=64,t=3$bGV0dGVycw$aGFzaG9mc29tZWxlbmd0aA"],
    ],
)
def test_mixed_or_unknown_formats_of_passwords_are_a_decision(shop, others):
    shop.create()
    with closing(sqlite3.connect(shop.path)) as connection, connection:
        for number in range(6):
            connection.execute(
                "insert into users (email, password) values (?, ?)", (f"{number}@example.org", others[0])
            )
    profile = shop.draft()
    assert "writes" not in profile["users"]["password"]
    assert profile["undecided"]["passwords"]
    before = shop.rows("select * from users")
    for words in ("set-password", "0@example.org"), ("create", "new@example.org"):
        assert shop.run("users", *words, "--generate", status=6)["error"]["code"] == "decision-open"
    assert shop.rows("select * from users") == before


def test_column_of_passwords_without_a_known_format_is_no_field(shop):
    """Otherwise the help asks for the password as text of a field, which would be stored as it is."""
    shop.create()
    with closing(sqlite3.connect(shop.path)) as connection, connection:
        connection.execute("update users set password = 'v9:' || password")
    profile = shop.draft()
    assert "password" not in profile["users"]["fields"].values()
    before = shop.rows("select * from users")
    new = ("create", "new@example.org")
    for words in (new, (*new, "--generate"), ("set-password", "bo@example.org", "--generate")):
        error = shop.run("users", *words, status=6)["error"]
        assert (error["code"], "[undecided]" in error["hint"]) == ("decision-open", True)
    assert shop.rows("select * from users") == before


def test_secret_that_the_app_may_add_to_passwords_is_a_decision(shop):
    shop.create(
        "create table keys (name text primary key, value text)",
        "insert into keys values ('SECURITY_PASSWORD_SALT', 'x')",
    )
    assert "SECURITY_PASSWORD_SALT" in shop.draft()["undecided"]["passwords"][0]
    assert shop.run("users", "set-password", "bo@example.org", "--generate", status=6)["error"]["code"] == (
        "decision-open"
    )
    lines = shop.profile.read_text().splitlines()
    (written,) = [line.removeprefix("# ") for line in lines if line.startswith("# password = ")]
    lines = [written if line.startswith("password = ") else line for line in lines]
    shop.profile.write_text("\n".join(lines))
    (shop.path.parent / "password").write_text("secret")
    (shop.path.parent / "rows.csv").write_text(f"id,email,password\n9,cy@example.org,{HASH}\n")
    error = shop.run("data", "import", "users", str(shop.path.parent / "rows.csv"), status=6)["error"]
    assert error["code"] == "decision-open"
    # what only reads hashes sets none
    shop.run("integrity", "check")
    words = (
        "users",
        "check-password",
        "bo@example.org",
        "--password-file",
        str(shop.path.parent / "password"),
    )
    assert shop.run(*words)["data"]["matches"]


def test_values_and_rows_that_every_user_has_are_drafted(shop):
    shop.create(
        "create table profiles (id integer primary key, owner_id integer not null references users (id), theme text)",
        "insert into profiles values (1, 1, 'dark'), (2, 2, 'dark')",
        columns=", deleted_at_ms integer, plan text not null, motto text, note text",
        values=(", 0, 'free', 'Ada', null", ", 0, 'free', 'Bo', 'x'"),
    )
    profile = shop.draft()
    assert profile["users"]["new"] == {"plan": "free", "deleted_at_ms": 0}
    assert "create" not in profile["users"]
    assert "# [[users.create]]" in shop.profile.read_text()
    decisions = profile["undecided"]["new-users"]
    assert ("profiles" in decisions[0], "motto" in decisions[1]) == (True, True)
    result = shop.run("users", "create", "cy@example.org", "--generate")
    assert any("profiles" in warning for warning in result["warnings"])
    assert shop.rows("select plan, deleted_at_ms, note from users where id = 3") == [("free", 0, None)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("rank integer not null references ranks (id)", "(1, 1), (2, 2)"),
        ("role_id integer not null", "(1, 1), (2, 2)"),
        ("role_id integer not null", "(1, 3), (2, 3)"),
        ("given integer not null references groups (id)", "(1, 3), (2, 3)"),
        ("given integer not null references permissions (id)", "(1, 3), (2, 3)"),
    ],
)
def test_new_users_get_no_rights_that_all_users_have_by_chance(shop, column, values):
    shop.create(
        *(
            statement
            for table in ("ranks", "groups", "permissions")
            for statement in (
                f"create table {table} (id integer primary key, name text)",
                f"insert into {table} values (1, 'user'), (2, 'editor'), (3, 'root')",
            )
        ),
        f"create table given (user_id integer primary key references users (id), {column})",
        f"insert into given values {values}",
        columns=", is_admin boolean",
        values=(", 1", ", 1"),
    )
    profile = shop.draft()
    assert "create" not in profile["users"]
    assert any("given" in text for text in profile["undecided"]["new-users"])


@pytest.mark.parametrize(("columns", "created"), [("{email}", True), ("words", False), ("", False)])
def test_row_that_every_user_has_is_created_if_all_its_values_are_known(shop, columns, created):
    value = {"{email}": "email", "words": "'motto of ' || email", "": "null"}[columns]
    unique = "" if not columns else " unique"
    shop.create(
        f"""create table identities (uid text primary key, user_id integer not null{unique} references users (id),
            provider text not null, address text, seen_at text, since text not null)""",
        f"""insert into identities select printf('0f8fad5b-d9cb-469f-a165-70867728950%d', id), id, 'local', {value}, null,
            '2026-01-01 00:00:00' from users""",
    )
    profile = shop.draft()
    sections = profile["users"].get("create", [])
    decisions = profile["undecided"].get("new-users", [])
    assert (bool(sections), not decisions) == (created, created)
    assert any("identities" in text for text in decisions) != created
    result = shop.run("users", "create", "cy@example.org", "--generate")
    rows = shop.rows("select provider, address, seen_at, length(uid) from identities where user_id = 3")
    assert rows == ([("local", "cy@example.org", None, 36)] if created else [])
    assert any("identities" in warning for warning in result["warnings"]) != created
    if created:
        shop.profile.write_text(shop.profile.read_text().replace("# admin = false", "admin = false"))
        shop.run("users", "delete", "cy@example.org")
        assert shop.rows("select count(*) from identities") == [(2,)]


def test_values_of_new_users_are_those_that_all_users_have(shop):
    shop.create(
        columns=""", first_name text not null, plan text not null, stamp text, email_key text, created_at text, updated_at text,
            modified text, mail_sent_at text""",
        values=tuple(
            f", '', 'free', '0f8fad5b-d9cb-469f-a165-7086772895{number}', '{name}@example.org', {TIME}, {TIME}, {TIME}, {TIME}"
            for number, name in ((11, "ada"), (22, "bo"))
        ),
    )
    profile = shop.draft()
    assert profile["users"]["new"] == {
        "first_name": "",
        "plan": "free",
        "stamp": ":uuid4",
        "email_key": "{email}",
        "modified": ":now",
    }
    assert "mail_sent_at" in profile["undecided"]["new-users"][0]
    shop.run("users", "create", "cy@example.org", "--generate")
    [(first, plan, stamp, key, changed, sent)] = shop.rows(
        "select first_name, plan, stamp, email_key, modified, mail_sent_at from users where id = 3"
    )
    assert (first, plan, len(stamp), key, bool(changed), sent) == (
        "",
        "free",
        36,
        "cy@example.org",
        True,
        None,
    )


def test_key_that_nothing_creates_is_required(shop):
    with closing(sqlite3.connect(shop.path)) as connection, connection:
        connection.execute(
            "create table users (id text primary key, email text not null unique, active boolean)"
        )
        connection.execute(
            "insert into users values ('k1', 'ada@example.org', 1), ('zz', 'bo@example.org', 1)"
        )
    shop.draft()
    error = shop.run("users", "create", "cy@example.org", status=2)["error"]
    assert "--set id=VALUE" in error["message"]
    shop.run("users", "create", "cy@example.org", "--set", "id=c 1")
    assert shop.rows("select email from users where id = 'c 1'") == [("cy@example.org",)]


def test_user_whose_key_is_in_the_name_of_a_role_is_not_deleted(shop):
    shop.create(
        "create table roles (id integer primary key, name text not null)",
        "insert into roles values (1, '__user_2__')",
    )
    assert "roles.name" in shop.draft()["undecided"]["rights"][0]
    shop.profile.write_text(shop.profile.read_text().replace("# admin = false", "admin = false"))
    assert shop.run("users", "delete", "bo@example.org", status=6)["error"]["code"] == "decision-open"
    assert shop.rows("select count(*) from users") == [(2,)]


@pytest.mark.parametrize(
    ("key", "admin"),
    [("id integer primary key, name text", None), ("name text primary key", "Administrator")],
)
def test_name_of_a_row_of_roles_does_not_show_that_its_users_are_admins(shop, key, admin):
    number = "1, " if admin is None else ""
    role = "'Administrator'" if admin else "1"
    shop.create(
        f"create table roles ({key})",
        f"insert into roles values ({number}'Administrator')",
        columns=f", role {'text' if admin else 'integer'} references roles",
        values=(f", {role}", ", null"),
    )
    profile = shop.draft()
    assert profile["users"].get("admin") == admin
    assert ("admin" in profile.get("undecided", {})) == (admin is None)
    if admin is None:
        error = shop.run("users", "delete", "bo@example.org", status=6)["error"]
        assert error["code"] == "admin-undecided"
        with closing(sqlite3.connect(shop.path)) as connection, connection:
            connection.execute("insert into roles values (2, 'Guest')")
        for option in ([], ["--dry-run"]):
            error = shop.run("users", "set-role", "ada@example.org", "Guest", *option, status=6)["error"]
            assert error["code"] == "admin-undecided"


@pytest.mark.parametrize(("login", "is_active"), [("null", True), ("'staff@example.org'", False)])
def test_rows_of_a_kind_without_login_and_password_are_no_users(shop, login, is_active):
    shop.create(
        "create table principals (id integer primary key, login text, password text, type text not null, admin boolean)",
        *(
            f"insert into principals values ({key}, '{name}', '{HASH}', 'User', {key == 1})"
            for key, name in enumerate(("ada", "bo"), 1)
        ),
        f"insert into principals values (3, {login}, '', 'Group', false)",
    )
    shop.users = ("--users", "principals")
    profile = shop.draft()
    assert profile["users"].get("only") == ({"type": "User"} if is_active else None)
    assert '# only = { type = "User" }' in shop.profile.read_text() or is_active
    assert any("Group" in text for text in profile["undecided"]["users"])
    assert shop.run("users", "list")["data"]["total"] == (2 if is_active else 3)
    if is_active:
        shop.run("users", "create", "cy", "--generate")
        assert shop.rows("select type from principals where login = 'cy'") == [("User",)]
        assert shop.run("users", "delete", "3", status=5)["error"]["code"] == "user-missing"


def test_account_of_the_app_itself_is_a_decision(shop):
    shop.create(columns=", username text", values=(", 'ada'", ", 'bo'"))
    with closing(sqlite3.connect(shop.path)) as connection, connection:
        connection.execute("insert into users values (null, 'x@example.org', '!unusable', 'AnonymousUser')")
    profile = shop.draft()
    assert "AnonymousUser" in " ".join(profile["undecided"]["users"])
    text = shop.profile.read_text()
    line = 'excluded = { username = ["AnonymousUser"] }'
    assert f"# {line}" in text
    shop.profile.write_text(text.replace(f"# {line}", line))
    assert shop.run("users", "list")["data"]["total"] == 2


def test_new_rows_have_the_integers_settings_and_random_values_of_all_rows(shop):
    shop.create(
        "create table teams (id integer primary key, title text)",
        "insert into teams values (1, 'all')",
        columns=", team_id integer not null references teams, settings json, locale text, stamp text not null, api_key text",
        values=tuple(f", 1, '{{}}', 'en', '{sign * 32}', '{sign * 40}'" for sign in "ab"),
    )
    profile = shop.draft()
    new = profile["users"]["new"]
    assert new == {"team_id": 1, "settings": "{}", "locale": "en", "stamp": ":hex-32"}
    assert new["team_id"] is not True
    assert "api_key" in " ".join(profile["undecided"]["new-users"])
    shop.run("users", "create", "cy@example.org", "--generate")
    rows = shop.rows("select team_id, settings, locale, length(stamp), api_key from users where id = 3")
    assert rows == [(1, "{}", "en", 32, None)]


def test_tables_with_several_rows_of_each_user_are_a_decision(shop):
    shop.create(
        *(
            f"insert into users values (null, '{name}@example.org', '{HASH}')"
            for name in ("cy", "dee", "eve")
        ),
        "create table folders (id integer primary key, user_id integer not null references users (id), title text not null)",
        "insert into folders (user_id, title) select id, 'Servers' from users",
        "insert into folders (user_id, title) values (1, 'Test')",
    )
    profile = shop.draft()
    assert "folders" in " ".join(profile["undecided"]["new-users"])
    assert "create" not in profile["users"]
    result = shop.run("users", "create", "fay@example.org", "--generate")
    assert any("folders" in warning for warning in result["warnings"])


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("names", [("ann", "bob"), ("ann", "ann")], ids=["different names", "equal names"])
def test_login_of_two_columns_is_a_decision_that_refuses_logins(tmp_path, answer, engine, names):
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table users (id integer primary key, name varchar(40) not null, host varchar(40) not null, password varchar(100))",
            "create unique index users_name_host on users (name, host)",
            f"insert into users values (1, '{names[0]}', 'a.example', '{HASH}'), (2, '{names[1]}', 'b.example', '{HASH}')",
        )
        profile_path = tmp_path / "app.toml"
        data = answer("profiles", "draft", database.url, "--name", "app", "--to", str(profile_path))["data"]
        profile = tomllib.loads(data["profile"])
        assert (profile["users"]["login"], "username" in profile["users"]["fields"]) == (["id"], False)
        (decision,) = profile["undecided"]["login"]
        assert all(text in decision for text in ("users_name_host", "name and host"))
        options = ("--profile", str(profile_path), "--url", f"main={database.url}", "--yes")
        before = database.content()
        for words in (
            ["show", "ann"],
            ["show", "1"],
            ["set-password", "ann", "--generate"],
            ["set-password", "1", "--generate"],
            ["update", "1", "--name", "zoe"],
            ["create", "zoe", "--name", "zoe", "--set", "host=a.example", "--generate"],
            ["create", "9", "--name", "zoe", "--set", "host=a.example", "--generate"],
            ["ensure", "9", "--name", "zoe", "--set", "host=a.example", "--generate"],
            ["delete", "1"],
            ["export-data", "1", str(tmp_path / "ann.json")],
        ):
            error = answer("users", *words, *options, status=6)["error"]
            assert (error["code"], "users_name_host" in error["message"]) == ("decision-open", True), words
        assert database.content() == before
        assert answer("users", "list", *options)["data"]["total"] == 2
        assert answer("users", "show", "--id", "1", *options)["data"]["name"] == "ann"
        text = profile_path.read_text()
        entry = text[text.index("login = [\n") : text.index("]\n", text.index("login = [\n")) + 2]
        profile_path.write_text(text.replace(entry, ""))
        assert answer("users", "show", "1", *options)["data"]["name"] == "ann"


def test_login_of_one_column_is_not_refused_for_a_key_of_two(shop):
    shop.create(
        "create unique index users_name_host on users (name, host)",
        columns=", name text, host text",
        values=(", 'ada', 'a'", ", 'bo', 'b'"),
    )
    profile = shop.draft()
    assert (profile["users"]["login"], "login" in profile["undecided"]) == (["email"], False)
    assert "users_name_host" in " ".join(profile["undecided"]["users"])
    shop.run("users", "set-password", "bo@example.org", "--generate")


CODES = """create table recovery_codes (id integer primary key, user_id integer not null references users (id), code text)"""


def test_second_factors_are_candidates_until_the_admin_decides(shop):
    """A secret without the flag is an unfinished registration: the data do not show for what the app asks."""
    columns = ", twoFactorEnabled boolean not null default 0, totp_secret text, otp_last_used_at text"
    shop.create(
        CODES,
        "insert into recovery_codes values (1, 2, 'r1'), (2, 2, 'r2')",
        columns=columns,
        values=(", 0, null, null", ", 1, 'JBSWY3DPEHPK3PXP', '2026-01-01'"),
    )
    profile = shop.draft()
    assert "second_factor" not in profile["users"]
    (decision,) = profile["undecided"]["second-factors"]
    for place in (
        "users.twoFactorEnabled",
        "users.totp_secret",
        "users.otp_last_used_at",
        "recovery_codes.user_id",
    ):
        assert place in decision
    before = shop.rows("select * from users"), shop.rows("select * from recovery_codes")
    refused = shop.run("users", "reset-2fa", "bo@example.org", status=6)["error"]
    assert (refused["code"], decision in refused["message"]) == ("decision-open", True)
    assert (shop.rows("select * from users"), shop.rows("select * from recovery_codes")) == before

    text = shop.profile.read_text()
    lines = text.splitlines()
    for start in [index for index, line in enumerate(lines) if line == "# [[users.second_factor]]"]:
        for index in range(start, lines.index("", start)):
            lines[index] = lines[index].removeprefix("# ")
    shop.profile.write_text("\n".join(lines))
    assert shop.run("users", "reset-2fa", "bo@example.org", status=6)["error"]["code"] == "decision-open"
    decided = [line for line in lines if decision not in line]
    shop.profile.write_text("\n".join(decided).replace("second-factors = [\n]\n", ""))
    data = shop.run("users", "reset-2fa", "ada@example.org", "bo@example.org")["data"]
    assert (data["changed"], data["removed"]) == (1, {"totp": 1, "recovery-codes": 2})
    assert (
        shop.rows("select twoFactorEnabled, totp_secret, otp_last_used_at from users")
        == [(0, None, None)] * 2
    )
    assert shop.rows("select * from recovery_codes") == []


def test_app_without_second_factors_has_no_candidate(shop):
    shop.create(columns=", secret_question text, photo text", values=(", '', ''", ", '', ''"))
    shop.draft()
    assert "[[users.second_factor]]" not in shop.profile.read_text()


def test_format_that_no_stored_time_has_is_stated(shop):
    values = (", '2026-01-01T00:00:00.123456+00:00'", ", '2026-02-01T00:00:00.123456+00:00'")
    shop.create(columns=", created_at text", values=values)
    draft = shop.draft()
    (line,) = [text for text in shop.profile.read_text().splitlines() if text.startswith("time = ")]
    assert line.endswith("# without a type for times: 2 iso-without-z; none has this form")
    assert "format" in draft["undecided"]


@pytest.mark.parametrize(
    "first", ["2026-01-01 00:00:00.123456", "2026-01-01 00:00:00Z", "2026-01-01 00:00:00+00:00"]
)
def test_times_with_fraction_or_offset_have_the_form_that_commands_write(shop, first):
    shop.create(
        "create table beats (id integer primary key, seen_at bigint)",
        "insert into beats values (1, 1767312000000), (2, 1767312001000), (3, 1767312002000)",
        columns=", created_at text",
        values=(f", '{first}'", ", '2026-02-01 00:00:00.5'"),
    )
    draft = shop.draft()
    assert draft["time"] == "sqlite-time"
    assert "format" not in draft["undecided"]


def test_number_without_end_and_number_of_phone_are_no_times(shop):
    shop.create(
        columns=", created_at real, updated_at text",
        values=(", 9e999, '1767312000'", ", 1767312000.5, '1767312001'"),
    )
    assert not {"created_at", "updated_at"} & shop.draft()["users"]["fields"].keys()


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (("is_moderator", "is_admin"), ["is_admin"]),
        (("is_staff", "is_superuser"), ["is_superuser"]),
        (("is_moderator", "is_staff"), None),
    ],
)
def test_flag_of_other_roles_makes_no_admin(shop, columns, match):
    flags = "".join(f", {name} boolean not null default 0" for name in columns)
    shop.create(columns=flags, values=(", 1, 1", ", 1, 0"))
    draft = shop.draft()
    ranks = draft["users"].get("role", {}).get("ranks", [{}])
    assert ranks[0].get("match") == match
    assert draft["users"].get("admin") == (match and "admin")
    assert ("admin" in draft["undecided"]) is (match is None)
