"""Sign-ins that are rows, payloads, columns of users or signed cookies, on each engine."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.core.signing import JSONSerializer, TimestampSigner

from dbctl.profiles.payloads import read_payload
from dbctl.services.users.sign_in_state import PAGE_ROWS
from tests.databases import empty_database

COLUMNS = {
    "sqlite": {"key": "integer primary key", "text": "text", "time": "datetime", "json": "text"},
    "postgresql": {"key": "serial primary key", "text": "text", "time": "timestamptz", "json": "jsonb"},
    "mysql": {"key": "integer primary key auto_increment", "text": "varchar(999)", "time": "datetime(3)", "json": "json"},
}  # fmt: skip
TABLES = [
    "create table people (id {key}, login {text}, stamp varchar(36), version integer, valid_after bigint)",
    "create table visits (token varchar(99) primary key, person integer, kind varchar(9), expires bigint)",
    "create table django_session (session_key varchar(40) primary key, session_data {text}, expire_date {time})",
    "create table stores (sid varchar(40) primary key, sess {json}, started {time})",
]
PROFILE = """
schema = "dbctl.profile/1"
name = "forge"
title = "Forge"
time = "sqlite-time"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["people"]
[users]
admin = false
table = "people"
id = { column = "id" }
login = ["username"]
fields = { username = "login" }
"""
ROWS = """
[[users.signed_in]]
table = "visits"
user = "person"
only = { kind = ["web", "app"] }
expires_at = "expires"
[[users.signed_in]]
table = "django_session"
payload = { column = "session_data", codec = "django", key = "_auth_user_id" }
expires_at = "expire_date"
[users.on_sign_out]
stamp = ":uuid4"
version = ":next"
valid_after = ":now"
[[sessions]]
name = "web"
table = "visits"
key = "token"
user = "person"
expires_at = "expires"
[[sessions]]
name = "django"
table = "django_session"
key = "session_key"
payload = { column = "session_data", codec = "django", key = "_auth_user_id" }
expires_at = "expire_date"
[[sessions]]
name = "stores"
table = "stores"
key = "sid"
payload = { column = "sess", codec = "json", key = "passport.user" }
started_at = "started"
lifetime = "2d"
[[sessions]]
name = "anonymous"
table = "stores"
key = "sid"
"""
COOKIE = 'cookie = "7 days"\nchecked = ["password"]\n'


def sign(user: int | None, *, compress: bool = False) -> str:
    data = {"_auth_user_id": str(user), "filling": "x" * 300 * compress} if user else {"cart": [1]}
    signer = TimestampSigner(key="unknown to dbctl", salt="sessions", fallback_keys=[])
    return str(signer.sign_object(data, serializer=JSONSerializer, compress=compress))


def at(**offset: float) -> str:
    return f"{datetime.now(UTC) + timedelta(**offset):%Y-%m-%d %H:%M:%S}"


def declare(folder, url: str, profile: str) -> None:
    path = folder / f"{uuid.uuid4()}.toml"
    path.write_text(profile)
    (folder / "dbctl.toml").write_text(
        f'[apps.forge]\nprofile = "{path}"\n[apps.forge.databases]\nmain = "{url}"\n'
    )


@pytest.fixture(params=COLUMNS)
def forge(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "forge.db") as db:
        db.run(*(table.format(**COLUMNS[request.param]) for table in TABLES))
        now = int(datetime.now(UTC).timestamp())
        db.run("insert into people (id, login, version) values (1, 'ann', 4), (2, 'bo', null)")
        db.run(
            f"insert into visits values ('a', 1, 'web', {now + 99}), ('b', 1, 'web', {now - 99}), ('c', 1, 'key', null),"
            f" ('d', 2, 'app', {now + 99})"
        )
        for key, user, compress, expires in (
            ("k1", 1, False, at(days=1)), ("k2", 1, True, at(days=1)), ("k3", 2, True, at(days=1)),
            ("k4", None, False, at(days=1)), ("k5", 1, False, at(days=-1)),
        ):  # fmt: skip
            db.run(
                f"insert into django_session values ('{key}', '{sign(user, compress=compress)}', '{expires}')"
            )
        db.run("insert into django_session values ('k6', 'no payload', null)")
        sess = json.dumps({"passport": {"user": 2}})
        db.run(
            f"insert into stores values ('s1', '{sess}', '{at(days=-1)}'), ('s2', '{{}}', '{at(days=-3)}')"
        )
        declare(tmp_path, db.url, PROFILE + ROWS)
        yield db


def test_sign_out_without_sessions_names_the_columns_of_users_and_payloads(answer, forge, tmp_path):
    start, end = ROWS.index("[users.on_sign_out]"), ROWS.index("[[sessions]]")
    declare(tmp_path, forge.url, PROFILE + ROWS[:start] + ROWS[end:])
    assert answer("sessions", "revoke", "bo", "--yes")["data"]["ended_sessions"] == 2
    result = answer("sessions", "revoke", "bo", "--yes")["data"]
    assert (result["ended_sessions"], result["searched"]) == (
        0,
        ["visits.person", "django_session.session_data"],
    )


def test_rows_without_end_are_sessions_until_they_expire(answer, forge, tmp_path):
    def states(*words: str) -> dict[str, list[str | None]]:
        items = answer("sessions", "list", *words)["data"]["items"]
        return {
            state: sorted(str(item["user"]) for item in items if item["state"] == state)
            for state in ("active", "completed")
        }

    assert answer("apps", "check")["data"]["findings"] == []
    declare(tmp_path, forge.url, PROFILE + ROWS.replace('codec = "django"', 'codec = "json"'))
    findings = answer("apps", "check", status=4)["data"]["findings"]
    assert [finding["code"] for finding in findings] == ["stored-form", "stored-form"]
    declare(tmp_path, forge.url, PROFILE + ROWS)
    assert states() == {"active": ["ann", "ann", "bo"], "completed": ["ann"]}
    # the key of these rows is the token, which is secret
    assert {item["id"] for item in answer("sessions", "list")["data"]["items"]} == {"***"}
    assert answer("sessions", "list", "--sort", "id", status=2)["error"]["code"] == "usage"
    assert states("--state", "completed") == {"active": [], "completed": ["ann"]}
    assert states("--kind", "django") == {
        "active": ["None", "None", "ann", "ann", "bo"],
        "completed": ["ann"],
    }
    assert states("--kind", "django", "--user", "ann", "--state", "active") == {
        "active": ["ann", "ann"],
        "completed": [],
    }
    assert states("--kind", "stores") == {"active": ["bo"], "completed": ["None"]}
    assert states("--kind", "anonymous") == {"active": ["None", "None"], "completed": []}
    for words in (("--user", "ann"), ("--sort", "user"), ("--sort", "started_at")):
        assert answer("sessions", "list", "--kind", "anonymous", *words, status=2)["error"]["code"] == "usage"


#: What apps store in place of NULL: zero, the first day of the calendar of a language, the zero of MySQL.
NO_TIMES = {
    "sqlite": ["0", "'0001-01-01 00:00:00'", "'0001-01-01T00:00:00Z'", "'never'"],
    "postgresql": ["timestamp 'epoch'", "'0001-01-01 00:00:00+00'"],
    "mysql": ["'1970-01-01'", "'0001-01-01'", "'0000-00-00'"],
}


def test_placeholder_of_a_time_is_neither_an_end_nor_a_sign_in(answer, forge, tmp_path):
    times = "".join(f'{name} = "{name}"\n' for name in ("created_at", "last_login_at"))
    cleanup = """
[[cleanup]]
name = "expired"
table = "visits"
key = "token"
age = { column = "expires", older_than = "0s" }
delete = true
[[cleanup]]
name = "old"
table = "django_session"
key = "session_key"
age = { column = "expire_date", older_than = "0s" }
delete = true
"""
    profile = PROFILE.replace(
        'fields = { username = "login" }', f'[users.fields]\nusername = "login"\n{times}'
    )
    declare(tmp_path, forge.url, profile + ROWS + cleanup)
    kind = COLUMNS[forge.engine]["time"]
    forge.run(*(f"alter table people add {name} {kind}" for name in ("created_at", "last_login_at")))
    forge.run("update visits set expires = 0 where token = 'b'")
    for value in NO_TIMES[forge.engine]:
        forge.run(
            *(["set session sql_mode = ''"] if forge.engine == "mysql" else []),
            f"update django_session set expire_date = {value} where session_key = 'k5'",
            f"update people set last_login_at = {value}, created_at = '{at(hours=-1)}'",
        )
        assert [user["last_login_at"] for user in answer("users", "list")["data"]["items"]] == [None, None]
        assert answer("users", "list", "--never-signed-in")["data"]["total"] == 2
        assert answer("users", "list", "--inactive", "30d")["data"]["total"] == 0
        assert answer("sessions", "list", "--state", "completed")["data"]["total"] == 0
        sessions = answer("sessions", "list", "--kind", "django", "--user", "ann")["data"]["items"]
        assert [(item["state"], item["expires_at"] is None) for item in sessions].count(("active", True)) == 1
        rules = answer("sessions", "cleanup", "--check")["data"]["items"]
        assert [rule["matched"] for rule in rules] == [0, 0]
        forge.run(f"update people set created_at = '{at(days=-99)}'")
        assert answer("users", "list", "--inactive", "30d")["data"]["total"] == 2
    assert answer("sessions", "revoke", "ann", "--yes")["data"]["ended_sessions"] == 5
    assert forge.rows("select token from visits order by token") == [("c",), ("d",)]


def test_placeholder_of_the_end_of_a_token_is_no_end(answer, forge, tmp_path):
    section = '[[users.signed_in]]\ntable = "tokens"\nuser = "person"\non_end = { revoked = ":now" }\n'
    declare(tmp_path, forge.url, PROFILE + section)
    kind = COLUMNS[forge.engine]["time"]
    forge.run(f"create table tokens (token varchar(9) primary key, person integer, revoked {kind})")
    for number, value in enumerate(NO_TIMES[forge.engine]):
        forge.run(
            *(["set session sql_mode = ''"] if forge.engine == "mysql" else []),
            f"insert into tokens values ('t{number}', 1, {value})",
        )
        assert answer("sessions", "revoke", "ann", "--yes")["data"]["ended_sessions"] == 1
        assert answer("sessions", "revoke", "ann", "--yes")["data"]["ended_sessions"] == 0
    row = {"token": "new", "person": 1, "revoked": "0001-01-01 00:00:00"}
    (tmp_path / "new.jsonl").write_text(json.dumps(row))
    error = answer("data", "import", "tokens", "new.jsonl", "--yes", status=None)["error"]
    assert "it would sign in a user" in error["message"]
    stored = forge.rows("select revoked from tokens")
    assert all(str(time) > f"{datetime.now(UTC):%Y}" for (time,) in stored)


def test_payloads_of_every_page_are_read(answer, forge):
    """One query reads ``PAGE_ROWS`` rows; the last one that is read is not read again."""
    session, expires = sign(1), at(days=1)
    keys = [f"page{number:05}" for number in range(2 * PAGE_ROWS + 1)]
    for start in range(0, len(keys), 500):
        rows = ", ".join(f"('{key}', '{session}', '{expires}')" for key in keys[start : start + 500])
        forge.run(f"insert into django_session values {rows}")
    assert answer("sessions", "revoke", "ann", "--yes")["data"]["ended_sessions"] == 4 + len(keys)
    assert forge.rows("select count(*) from django_session where session_key like 'page%'")[0][0] == 0


def test_password_that_only_the_app_sets_is_refused_with_its_reason(answer, forge, tmp_path):
    only_app = '[users]\nonly_app_sets_passwords = "it encrypts the files of the user with it"'
    declare(tmp_path, forge.url, PROFILE.replace("[users]", only_app))
    error = answer("users", "set-password", "ann", "--generate", "--yes", status=2)["error"]
    assert (error["code"], error["hint"]) == (
        "not-supported",
        "Set the password in the app: it encrypts the files of the user with it.",
    )


def test_revoke_ends_rows_payloads_and_stamps(answer, forge):
    plan = answer("sessions", "revoke", "ann", "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"people": 1, "visits": 2, "django_session": 2}
    step = "change stamp, version, valid_after of 1 user, which ends all of their sessions"
    assert step in plan["steps"]
    assert answer("users", "show", "ann")["data"]["tokens"] == {"valid": 3, "expired": 1, "revoked": 0}
    result = answer("sessions", "revoke", "ann", "--yes")["data"]
    assert (result["changed"], result["ended_sessions"]) == (1, 4)
    assert [key for (key,) in forge.rows("select token from visits order by token")] == ["c", "d"]
    keys = [key for (key,) in forge.rows("select session_key from django_session order by session_key")]
    assert keys == ["k3", "k4", "k5", "k6"]
    (ann, bo) = forge.rows("select stamp, version, valid_after from people order by id")
    assert (str(uuid.UUID(ann[0])), ann[1], bo) == (ann[0], 5, (None, None, None))
    assert abs(ann[2] - datetime.now(UTC).timestamp()) < 60  # seconds, in a column of integers
    answer("sessions", "revoke", "ann", "bo", "--yes")
    stamps = forge.rows("select stamp, version from people order by id")
    assert len({stamp for stamp, _ in stamps} | {ann[0]}) == 3
    assert [version for _, version in stamps] == [6, 1]


def test_revoke_requires_numbers_in_counters(answer, forge, tmp_path):
    forge.run("alter table people add word varchar(9)", "update people set word = 'x' where id = 1")
    declare(tmp_path, forge.url, PROFILE + ROWS.replace("version =", "word ="))
    before = forge.content()
    error = answer("sessions", "revoke", "ann", "bo", "--yes", status=None)["error"]
    assert (error["code"], "word" in error["message"]) == ("value-invalid", True)
    assert forge.content() == before


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ('[[users.signed_in]]\ntable = "visits"\nuser = "person"\n', "visits"),
        ('[users.on_sign_out]\nversion = ":next"\n', "people.version"),
    ],
)
def test_sign_ins_without_section_sessions_are_not_denied(answer, forge, tmp_path, section, place):
    declare(tmp_path, forge.url, PROFILE + section)
    error = answer("sessions", "list", status=2)["error"]
    assert (error["code"], place in error["message"]) == ("sessions-unlisted", True)
    assert "dbctl sessions revoke" in error["hint"]
    assert answer("sessions", "revoke", "ann", "--yes")["data"]["changed"] == 1
    declare(tmp_path, forge.url, PROFILE)
    assert answer("sessions", "list", status=2)["error"]["code"] == "feature-missing"


def test_signed_cookies_end_only_by_checked_fields(answer, forge, tmp_path):
    forge.run("alter table people add passwd varchar(99)", "alter table people add rank_ varchar(9)")
    section = '[users.password]\ncolumn = "passwd"\nwrites = "$2b$04$"\n[users.role]\ncolumn = "rank_"\nvalues = ["a", "b"]\n'
    declare(tmp_path, forge.url, PROFILE + COOKIE + section)
    error = answer("sessions", "revoke", "ann", status=2)["error"]
    assert (error["code"], "7 days" in error["hint"], "set-password" in error["hint"]) == (
        "not-supported",
        True,
        True,
    )
    error = answer("sessions", "list", status=2)["error"]
    assert (error["code"], "7 days" in error["hint"]) == ("sessions-unlisted", True)
    assert answer("users", "set-password", "ann", "--generate")["data"]["signed_in_for"] is None
    assert answer("users", "set-role", "ann", "b")["data"]["signed_in_for"] == "7 days"
    assert "7 days" in answer("users", "ensure", "bo", "--role", "b")["warnings"][0]
    assert answer("users", "ensure", "bo", "--role", "b")["warnings"] == []
    assert answer("users", "delete", "ann", "--yes")["data"]["signed_in_for"] is None


WRONG = [
    ('user = "person"\nonly', "only"),
    (":uuid4", ":uuid9"),
    (":uuid4", "{username}"),
    ('key = "sid"\npayload', 'key = "sid"\nuser = "sid"\npayload'),
    ('started_at = "started"\n', ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), WRONG)
def test_wrong_sections_are_reported(answer, tmp_path, old, new):
    path = tmp_path / "wrong.toml"
    path.write_text((PROFILE + ROWS).replace(old, new, 1))
    findings = answer("apps", "check", str(path), status=2)["data"]["findings"]
    assert {finding["code"] for finding in findings} == {"invalid-entry"}


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        ":",
        "::",
        ".eJw:1:2",
        "a" * 5000,
        ".AAAA:x:y",
        b"\xff",
        "[1]",
        '{"a": {}}',
        '{"a": true}',
        "[" * 9999,
    ],
)
def test_unreadable_payload_has_no_user(stored):
    assert read_payload("django", "a", stored) is None
    assert read_payload("json", "a", stored) is None


only_sqlite = pytest.mark.parametrize("forge", ["sqlite"], indirect=True)


@only_sqlite
def test_optional_tables_of_sign_ins_may_be_missing(answer, forge, tmp_path):
    rows, missing = (
        ROWS.replace('table = "visits"\n', 'table = "visits?"\n', 1),
        '[[users.signed_in]]\ntable = "cars?"\nuser = "person"\n',
    )
    declare(tmp_path, forge.url, PROFILE + missing + rows)
    assert answer("sessions", "revoke", "ann", "--yes")["data"]["ended_sessions"] == 4
    declare(tmp_path, forge.url, PROFILE + missing.replace("?", "") + rows)
    error = answer("sessions", "revoke", "ann", "--yes", status=2)["error"]
    assert (error["code"], "cars" in error["message"]) == ("schema-mismatch", True)


@only_sqlite
def test_payloads_require_a_key_of_one_column(answer, forge, tmp_path):
    forge.run("create table carts (first integer, second integer, data text, primary key (first, second))")
    section = (
        '[[users.signed_in]]\ntable = "carts"\npayload = { column = "data", codec = "json", key = "user" }\n'
    )
    declare(tmp_path, forge.url, PROFILE + section)
    error = answer("sessions", "revoke", "ann", "--yes", status=2)["error"]
    assert (error["code"], "a primary key of carts with one column" in error["message"]) == (
        "schema-mismatch",
        True,
    )


@only_sqlite
def test_row_without_a_login_has_no_login_of_a_user(answer, forge, tmp_path):
    forge.run("insert into people (id, login) values (3, null)")
    (tmp_path / "users.csv").write_text("username\nNone\n")
    assert answer("users", "import", "users.csv")["data"]["added"] == 1


@only_sqlite
def test_number_that_a_user_has_is_no_change(answer, forge, tmp_path):
    declare(
        tmp_path, forge.url, PROFILE.replace('username = "login"', 'username = "login", version = "version"')
    )
    for version, changed in (("4", 0), ("5", 1), ("5", 0)):
        assert answer("users", "update", "ann", "--set", f"version={version}")["data"]["changed"] == changed


@only_sqlite
def test_app_without_a_state_of_users_deactivates_none(answer, forge):
    for command in ("activate", "deactivate"):
        error = answer("users", command, "ann", status=2)["error"]
        assert (error["code"], "inactive users" in error["message"]) == ("feature-missing", True)
