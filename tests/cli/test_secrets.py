"""Secret columns without a profile and in views: detected, masked, and refused in a query."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest

from dbctl.cli.main import main
from dbctl.engines.parsing import lineage
from dbctl.services.app.secrets import has_secret_name, is_secret_value
from tests import databases, servers

BCRYPT = "$2b$12$" + "a" * 53
SCHEMA = (
    "create table people (id integer primary key, name varchar(40), reset_token varchar(40), misc varchar(80))",
    f"insert into people values (1, 'ann', 'hush-1', 'none'), (2, 'ben', 'hush-2', '{BCRYPT}')",
    "create view renamed as select id, reset_token as label, misc as remark from people where reset_token is not null",
    "create view view_of_view as select id, concat(label, '!') as shout from renamed",
    "create view joined as select p.id, (select q.reset_token from people q where q.id = p.id) as pick, p.name from people p",
    "create view counted as select name, count(*) as people from people group by name",
)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def address(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    if request.param == "sqlite":
        with closing(sqlite3.connect("people.db", isolation_level=None)) as db:
            for sql in SCHEMA:
                db.execute(sql.replace("concat(label, '!')", "label || '!'"))
        yield "people.db"
    elif request.param == "mysql":
        with (
            servers.mysql_database() as url,
            closing(servers.mysql_connection(url)) as db,
            db.cursor() as cursor,
        ):
            for sql in SCHEMA:
                cursor.execute(sql)
            yield servers.text(url)
    else:
        with servers.postgresql_schema() as url, closing(servers.connection(url)) as db:
            for sql in SCHEMA:
                db.execute(sql)
            yield servers.text(url)


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ("people", {"id": 2, "name": "ben", "reset_token": "***", "misc": "***"}),
        ("renamed", {"id": 2, "label": "***", "remark": "***"}),
        ("view_of_view", {"id": 2, "shout": "***"}),
        ("joined", {"id": 2, "pick": "***", "name": "ben"}),
        ("counted", {"name": "ben", "people": 1}),
    ],
)
def test_secret_columns_are_masked_in_views_without_profile(address, answer, table, shown):
    rows = answer("--url", address, "data", "rows", table)["data"]["items"]
    assert shown in rows
    revealed = answer("--url", address, "data", "rows", table, "--secrets")["data"]["items"]
    assert "***" not in {value for row in revealed for value in row.values()}


def test_export_omits_secret_columns_of_views(address, capsys, answer):
    exported = answer("--url", address, "data", "export", "renamed", "renamed.csv")["data"]
    assert (exported["columns"], exported["left_out"]) == (["id"], ["label", "remark"])


@pytest.mark.parametrize(
    "sql",
    [
        "select * from renamed",
        "select label from renamed",
        "select shout from view_of_view",
        "select id from view_of_view where shout like 'h%'",
        "select pick from joined",
        "select v.shout from view_of_view v order by 1",
        "with renamed as (select reset_token as id from people) select id from renamed",
        "select x.id from (select reset_token as id from people) x",
    ],
)
def test_query_of_secret_through_view_is_refused(address, answer, sql):
    refused = answer("--url", address, "data", "query", sql, status=6)
    assert refused["error"]["code"] == "secret-column"


@pytest.mark.parametrize("sql", ["select name from counted", "select id, name from people"])
def test_query_without_secret_is_allowed(address, answer, sql):
    assert answer("--url", address, "data", "query", sql)["data"]["total"] == 2


def test_query_of_other_view_columns_is_allowed(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("people.db", isolation_level=None)) as db:
        for sql in SCHEMA[:3]:
            db.execute(sql)
    assert answer("--url", "people.db", "data", "query", "select id from renamed")["data"]["total"] == 2


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *[(name, True) for name in ("password", "passwd", "user_pass", "hashed_password", "password_hash")],
        *[(name, True) for name in ("api_key", "apikey", "reset_token", "secret", "client_secret", "otp")],
        *[(name, True) for name in ("session_key", "recovery_codes", "salt", "encrypted_password")],
        *[(name, True) for name in ("newpassword", "accesstoken", "share_code", "pushkey", "auth_data")],
        *[
            (name, True)
            for name in ("private_key_pem", "registration_hash", "webhook_url", "connection_string")
        ],
        *[(name, False) for name in ("password_changed_at", "token_type", "token_count", "key", "hash")],
        *[
            (name, False)
            for name in ("sync_token", "next_page_token", "modtoken", "job_token", "slug", "code")
        ],
        *[
            (name, False)
            for name in ("secretary", "compass", "passenger", "tokenizer", "name", "bypass_rule")
        ],
    ],
)
def test_secret_column_names(name, is_secret):
    assert has_secret_name(name) is is_secret


@pytest.mark.parametrize(
    ("value", "is_secret"),
    [
        (BCRYPT, True),
        ("$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", True),
        ("pbkdf2_sha256$600000$salt$aGFzaGhhc2hoYXNo", True),
        ("scrypt:32768:8:1$salt$0123456789abcdef", True),
        ("$P$B123456789012345678901234567890", True),
        ("{SSHA}0123456789abcdef", True),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", True),
        ("sk-0123456789abcdef0123", True),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", True),
        ("costs $2 or $3", False),
        ("d41d8cd98f00b204e9800998ecf8427e", False),
        ("Ann", False),
    ],
)
def test_secret_values_are_detected_in_any_column(value, is_secret):
    assert is_secret_value(value) is is_secret


@pytest.mark.parametrize(
    ("query", "columns", "sources"),
    [
        ("create view v (a, b) as select id, token from users", "a b", [{"id"}, {"token"}]),
        ("create view v as select * from users", "id token", [{"id"}, {"token"}]),
        ("select id from users union all select token from users", "id", [{"id", "token"}]),
        ("with c (x, y) as (select id, token from users) select y from c", "y", [{"token"}]),
        ("select case when token like 'a%' then 1 end as c, id from users", "c id", [{"token"}, {"id"}]),
        ("select count(*) as n, max(token) as m from users", "n m", [set(), {"token"}]),
        ("select id, token as id from users", "id id:1", [{"id"}, {"token"}]),
        ("select count(token) as n, token is not null as a from users", "n a", [set(), set()]),
        ("select broken (", "x", [None]),
        ("", "x", [None]),
    ],
)
def test_lineage_of_a_view(query, columns, sources):
    names = columns.split()
    tables = {"users": ["id", "token"], "v": names}
    lineage_ = lineage.trace_sources({"v": query}, tables, "sqlite")["v"]
    expected = [None if names is None else {("users", column) for column in names} for names in sources]
    assert [lineage_[name] for name in names] == expected


def test_lineage_of_view_chain_is_resolved_once_per_view():
    names = [f"v{number}" for number in range(300)]
    tables = {"users": ["id", "token"], **{name: ["a"] for name in names}}
    queries = {"v0": "select token as a from users"}
    queries |= {name: f"select a from {before}" for before, name in pairwise(names)}
    assert set(lineage.find_dependent_views(queries, ["users"])) == set(names)
    assert lineage.trace_sources(queries, tables, "sqlite")["v299"] == {"a": {("users", "token")}}


@pytest.mark.parametrize("dialect", ["postgres", "sqlite", "mysql"])
@pytest.mark.parametrize("quote", ['"', "`"])
@pytest.mark.parametrize("alias", ["", "t."])
def test_columns_with_upper_case_letters_are_traced(dialect, quote, alias):
    if (dialect, quote) == ("postgres", "`"):
        pytest.skip("PostgreSQL has one kind of quotes")
    query = f'select {alias}"createdAt" as "madeAt", {alias}"apiToken" from "Team" t'.replace('"', quote)
    tables = {"Team": ["createdAt", "apiToken"], "v": ["madeAt", "apiToken"]}
    assert lineage.trace_sources({"v": query}, tables, dialect)["v"] == {
        "madeAt": {("team", "createdat")},
        "apiToken": {("team", "apitoken")},
    }


SECRETS_OF_A_CONFIGURATION = """[apps.blog]
profile = "plain"
databases = "postgresql://ann:hunter2@h/d?sslmode=require&sslpassword=hunter2&password=hunter2&application_name=x"
[apps.blog.hooks.backup]
before = ["curl", "-H", "Authorization: Bearer hunter2", "-H", "X-Api-Key: hunter2", "https://h/x?token=hunter2&a=1"]
after = ["notify", "--token", "hunter2", "--token=hunter2", "-u", "ann:hunter2", "--data", '{"secret": "hunter2"}']
failed = ["env", "API_TOKEN=hunter2", "--token", "${NAME}", "/usr/bin/tell"]
"""


@pytest.mark.parametrize(
    "words", [("config", "show"), ("config", "show", "--defaults"), ("-v", "config", "show")]
)
def test_configuration_is_shown_without_secrets(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dbctl.toml").write_text(SECRETS_OF_A_CONFIGURATION)
    for form in ("table", "json"):
        assert main([*words, "--app", "blog", "-o", form]) == 0
        shown = capsys.readouterr()
        assert "hunter2" not in shown.out + shown.err
    for text in ("sslmode=require", "application_name=x", "ann:***@h/d", "${NAME}", "/usr/bin/tell", "a=1"):
        assert text in shown.out


GENERATED = {
    "sqlite": "upper(password_hash)) virtual",
    "postgresql": "upper(password_hash)) stored",
    "mysql": "upper(password_hash)) virtual",
}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_columns_computed_from_secrets_are_secret(tmp_path, monkeypatch, capsys, engine):
    monkeypatch.chdir(tmp_path)
    with databases.empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table users (id integer primary key, name varchar(99), password_hash varchar(99),"
            f" shown varchar(99) generated always as ({GENERATED[engine]},"
            f" plain varchar(99) generated always as ({GENERATED[engine].replace('password_hash', 'name')})",
            "insert into users (id, name, password_hash) values (1, 'ann', 'hunter2')",
        )
        address = ["--url", f"main={database.url}"]
        for words in (
            ["data", "rows", "users"],
            ["data", "show", "users", "1"],
            ["data", "export", "users", "users.csv"],
            ["data", "export", "users", "users.jsonl"],
            ["search", "all", "HUNTER2"],
            ["data", "query", "select plain from users"],
        ):
            assert main([*words, *address]) == 0
        shown = capsys.readouterr().out + "".join(path.read_text() for path in tmp_path.glob("users.*"))
        assert ("HUNTER2" in shown, "ANN" in shown) == (False, True)
        for sql in (
            "select shown from users",
            "select 1 from users where shown like 'H%'",
            "select * from users",
        ):
            assert main(["data", "query", sql, *address]) == 6
        assert main(["data", "query", "select shown from users", "--secrets", *address]) == 0
