"""WaQtor: every feature on the deployed and on the documented variant."""

from __future__ import annotations

import io
import re
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests import servers
from tests.caching import postgresql_database
from tests.shapes import waqtor as shapes
from tests.shapes.waqtor import ANA, BOSS, PASSWORD, UNUSED, key

FAR_BACK = datetime(2020, 1, 1, tzinfo=UTC)


class Deployment:
    """One database of WaQtor on a server."""

    def __init__(self, variant, url, connection):
        self.variant, self.url = variant, servers.text(url)
        self._connection = connection

    @property
    def deployed(self):
        return self.variant == "deployed"

    def rows(self, sql, *parameters):
        result = self._connection.execute(sql, parameters)
        return result.fetchall() if result.description else []

    def query_value(self, sql, *parameters):
        ((value,),) = self.rows(sql, *parameters)
        return value


def deployment(variant):
    with postgresql_database(getattr(shapes, variant)) as url, closing(servers.connection(url)) as connection:
        connection.execute("set timezone = 'UTC'")
        yield Deployment(variant, url, connection)


@pytest.fixture(params=["deployed", "document"])
def waqtor(request):
    yield from deployment(request.param)


only_deployed = pytest.mark.parametrize("waqtor", ["deployed"], indirect=True)


@pytest.fixture
def run_command(waqtor, answer, monkeypatch):
    """Return a function that runs a command on the deployment and returns its data, or its error if the expected status is not 0."""

    def run(*words, stdin="", status=0, urls=()):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        options = [word for warning in urls for word in ("--url", warning)]
        output = answer("--profile", "waqtor", "--url", f"main={waqtor.url}", *options, *words, status=status)
        return output["error"] or output["data"]

    return run


# The profile and the schema ---------------------------------------------------------------------------------------


def test_profile_matches_both_variants(run_command, tmp_path):
    legacy = f"legacy={shapes.legacy(tmp_path / 'waqtor.db')}"
    assert run_command("apps", "check", urls=[legacy])["findings"] == []


@only_deployed
def test_unknown_variant_is_reported(run_command, waqtor):
    waqtor.rows("alter table whatsapp_sessions rename column is_active to active")
    findings = run_command("apps", "check", status=4)["findings"]
    assert [
        finding["message"].partition(" (")[0] for finding in findings if finding["code"] == "variant-unknown"
    ] == [
        "no variant of stale-whatsapp-sessions fits whatsapp_sessions: is_active, is_ready, or status",
        "no variant of whatsapp fits whatsapp_sessions: is_active, or status",
    ]
    assert run_command("sessions", "list", status=2)["code"] == "schema-mismatch"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "arguments"), [("deployed", []), ("document", ["--variant", "document"])]
)
def test_migrations_create_schema_of_each_variant(answer, variant, arguments):
    with servers.postgresql_schema() as migrated, servers.postgresql_schema() as expected:
        with closing(servers.connection(expected)) as connection:
            getattr(shapes, variant)(connection, rows=False)
        app = ["--profile", "waqtor", "--url", f"main={servers.text(migrated)}"]
        result = answer(*app, "migrate", "up", *arguments)["data"]["items"]
        assert [migration["name"][:3] for migration in result] == ["001", "002", "003"]
        assert answer(*app, "migrate", "drift")["data"]["findings"] == []
        with closing(servers.connection(migrated)) as connection:
            connection.execute("drop table schema_migrations")
        assert read_catalog(migrated) == read_catalog(expected)


def test_legacy_migrations_create_schema_of_app(answer, tmp_path):
    app = ["--profile", "waqtor", "--url", f"legacy={tmp_path / 'new.db'}"]
    answer(*app, "migrate", "up", "--db", "legacy")
    (tmp_path / "theirs").mkdir()
    shapes.legacy(tmp_path / "theirs" / "waqtor.db")
    app_options = ["--profile", "waqtor", "--url", f"legacy={tmp_path / 'theirs/waqtor.db'}"]
    tables = {
        row["table"]: row["indexes"]
        for row in answer(*app, "stats", "tables", "--db", "legacy")["data"]["items"]
    }
    tables.pop("schema_migrations")
    created = {
        row["table"]: row["indexes"]
        for row in answer(*app_options, "stats", "tables", "--db", "legacy")["data"]["items"]
    }
    created.pop("session_state")  # the app creates it when it first reads a session
    assert tables == created


def read_catalog(url):
    """Return the columns, constraints and indexes of all tables from the catalog, without the schema's name."""
    with closing(servers.connection(url)) as connection:
        catalog = connection.execute("""
            select 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
                coalesce(pg_get_expr(d.adbin, d.adrelid), '')
            from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
            left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
            where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
            union all
            select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
            from pg_constraint where connamespace = current_schema()::regnamespace
            union all
            select 'index', tablename, indexname, indexdef, '', '' from pg_indexes where schemaname = current_schema()
        """).fetchall()
        ((schema,),) = connection.execute("select current_schema()").fetchall()
    return sorted(tuple(text.replace(f"{schema}.", "") for text in row) for row in catalog)


# Users ------------------------------------------------------------------------------------------------------------


def test_users_are_listed_with_stored_values(run_command):
    users = run_command("users", "list")["items"]
    assert [(user["login"], user["name"], user["role"], user["active"]) for user in users] == [
        ("boss@waqtor.example", "Boss", "admin", True),
        ("ana@waqtor.example", "Ana 安", "user", True),
        ("Vic@waqtor.example", None, "viewer", True),
        ("off@waqtor.example", "Off", "user", False),
        ("admin@waqtor.local", "System Admin", "admin", True),
    ]
    times = ("2025-10-02T08:15:30.123Z", "2025-11-10T08:15:30.123Z")
    assert (users[0]["created_at"], users[0]["last_login_at"]) == times


def test_new_user_is_stored_as_by_app(run_command, waqtor):
    result = run_command(
        "users", "create", "new@x.example", "--name", "New", "--role", "viewer", "--password-stdin",
        stdin="secret 1\n",
    )  # fmt: skip
    assert uuid.UUID(result["user"]["id"]).version == 4
    ((created, updated, role, active, hashed),) = waqtor.rows(
        "select created_at, updated_at, role, is_active, password_hash from users where email = 'new@x.example'"
    )
    now = datetime.now(UTC) if created.tzinfo else datetime.now(UTC).replace(tzinfo=None)
    assert timedelta(0) <= now - created < timedelta(minutes=1)
    assert (updated, role, active) == (created, "viewer", True)
    assert re.match(r"\$2[ab]\$10\$", hashed)
    assert run_command("users", "check-password", "new@x.example", "--password-stdin", stdin="secret 1\n")[
        "matches"
    ]


def test_password_and_email_rules_are_enforced(run_command):
    for address, password in (("a@x.example", "12345"), ("no address", "123456"), ("a@x.example", "ä" * 37)):
        run_command("users", "create", address, "--password-stdin", stdin=f"{password}\n", status=2)
    run_command("users", "create", "a@x.example", "--password-stdin", stdin="123456\n")
    run_command("users", "create", "a@x.example", "--password-stdin", stdin="123456\n", status=6)


def test_emails_that_differ_in_case_are_different_users(run_command, waqtor):
    run_command(
        "users", "create", "Boss@waqtor.example", "--role", "viewer", "--password-stdin", stdin="123456\n"
    )
    assert run_command("users", "show", "boss@waqtor.example")["id"] == BOSS
    assert run_command("users", "show", "Boss@waqtor.example")["role"] == "viewer"
    refused = run_command("users", "show", "BOSS@waqtor.example", status=6)
    assert (refused["code"], BOSS in refused["message"]) == ("login-ambiguous", True)
    assert run_command("users", "show", "ANA@waqtor.example")["id"] == ANA
    run_command("users", "set-role", "Boss@waqtor.example", "user")
    assert waqtor.query_value("select role from users where id = %s", BOSS) == "admin"


def test_unknown_role_is_refused_and_new_enum_label_accepted(run_command, waqtor):
    refused = run_command("users", "set-role", "ana@waqtor.example", "superuser", status=5)
    assert "admin, user, viewer" in refused["hint"]
    assert [(role["name"], role["users"]) for role in run_command("roles", "list")["items"]] == [
        ("admin", 2),
        ("user", 2),
        ("viewer", 1),
    ]
    if waqtor.deployed:
        waqtor.rows("alter type enum_users_role add value 'auditor'")
        assert (
            run_command("users", "set-role", "ana@waqtor.example", "auditor")["users"][0]["role"] == "auditor"
        )


def test_account_with_invalid_hash_can_be_changed(run_command):
    login = "admin@waqtor.local"
    run_command("users", "check-password", login, "--password-stdin", stdin="dummy\n", status=1)
    assert run_command("users", "show", login)["id"] == UNUSED
    run_command("users", "set-password", login, "--password-stdin", stdin="possible\n")
    run_command("users", "check-password", login, "--password-stdin", stdin="possible\n")


def test_bcryptjs_hashes_are_verified(run_command):
    assert run_command(
        "users", "check-password", "ana@waqtor.example", "--password-stdin", stdin=f"{PASSWORD}\n"
    )["matches"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["set-password", "ana@waqtor.example", "--password-stdin"],
        ["set-role", "ana@waqtor.example", "viewer"],
        ["deactivate", "ana@waqtor.example"],
    ],
)
def test_sessions_end_with_change_of_password_role_or_account(run_command, waqtor, arguments):
    result = run_command("users", *arguments, stdin="another one\n")
    assert result["ended_sessions"] == (2 if waqtor.deployed else 0)
    if waqtor.deployed:
        assert waqtor.rows("select id, is_revoked, updated_at > now() - interval '1 minute' from refresh_tokens order by id") == [
            (1, False, False), (2, True, True), (3, True, False), (4, True, True),
        ]  # fmt: skip


def test_last_admin_cannot_be_removed(run_command, waqtor):
    run_command("users", "deactivate", "admin@waqtor.local")
    for arguments in (
        ["set-role", "boss@waqtor.example", "user"],
        ["deactivate", "boss@waqtor.example"],
        ["delete", "boss@waqtor.example", "--yes"],
    ):
        assert run_command("users", *arguments, status=6)["code"] == "last-admin"


def test_user_is_deleted_with_rows(run_command, waqtor):
    plan = run_command("users", "delete", "ana@waqtor.example", "--dry-run")["plan"]
    assert plan["rows"]["messages"] == (4 if waqtor.deployed else 3)
    result = run_command("users", "delete", "ana@waqtor.example", "--yes")["rows"]
    assert result == plan["rows"]
    assert waqtor.query_value("select count(*) from messages where user_id = %s", ANA) == 0
    assert waqtor.query_value("select count(*) from recipient_groups") == 1
    if waqtor.deployed:
        assert waqtor.rows("select user_id from feature_access_logs") == [(None,)]


def test_users_are_exported_and_imported(run_command, waqtor, tmp_path):
    assert len(run_command("users", "export")["items"]) == 5
    (tmp_path / "in.csv").write_text(
        "email,name,role\nzoe@x.example,Zoë,viewer\nZoe@x.example,,\n", encoding="utf-8"
    )
    assert run_command("users", "import", str(tmp_path / "in.csv"), "--generate")["added"] == 2
    assert waqtor.rows(
        "select name, role::text from users where email ilike 'zoe@x.example' order by role"
    ) == [(None, "user"), ("Zoë", "viewer")]
    assert (
        waqtor.query_value(
            "select count(*) from users where id is null or created_at is null or updated_at is null"
        )
        == 0
    )


# Sessions and expired rows ----------------------------------------------------------------------------------------


def test_whatsapp_sessions_are_listed_by_state(run_command, waqtor):
    waqtor.rows("update whatsapp_sessions set updated_at = now() where id = %s", key("b", 3))
    listed = run_command("sessions", "list", "--sort", "id")["items"]
    assert [(session["user"], session["state"], session["name"], session["phone"]) for session in listed] == [
        ("ana@waqtor.example", "abandoned", "Main" if waqtor.deployed else "ana-main", "4915100001"),
        ("ana@waqtor.example", "completed", "Old" if waqtor.deployed else "ana-old", None),
        ("boss@waqtor.example", "active", None if waqtor.deployed else "boss", "4915100002"),
    ]
    for state, number in (("active", 1), ("abandoned", 1), ("completed", 1)):
        assert run_command("sessions", "list", "--state", state)["total"] == number
    assert run_command("sessions", "list", "--user", "ana@waqtor.example")["total"] == 2
    assert "SECRET" not in str(listed)


def test_campaigns_are_listed_as_sessions(run_command):
    listed = run_command("sessions", "list", "--kind", "campaigns", "--sort", "id")["items"]
    assert [(session["name"], session["state"], session["status"]) for session in listed] == [
        ("Spring", "completed", "completed"),
        ("Stuck", "abandoned", "running"),
        ("Under way", "active", "running"),
    ]
    assert run_command("sessions", "list", "--kind", "campaigns", "--state", "abandoned")["total"] == 1
    assert run_command("sessions", "list", "--kind", "campaigns", "--state", "active")["total"] == 1
    refused = run_command("sessions", "list", "--kind", "plays", status=2)
    assert "known: whatsapp, sign-ins, campaigns" in refused["message"]


def test_sign_ins_are_listed_and_revoked(run_command, waqtor):
    if not waqtor.deployed:
        assert run_command("sessions", "list", "--kind", "sign-ins", status=2)["code"] == "schema-mismatch"
        assert run_command("sessions", "revoke", "ana@waqtor.example", status=2)["code"] == "not-supported"
        assert run_command("users", "show", "ana@waqtor.example")["tokens"] is None
        return
    assert run_command("users", "show", "ana@waqtor.example")["tokens"] == {
        "valid": 1,
        "expired": 1,
        "revoked": 1,
    }
    listed = run_command("sessions", "list", "--kind", "sign-ins", "--sort", "id")["items"]
    assert [(session["user"], session["state"]) for session in listed] == [
        ("boss@waqtor.example", "active"),
        ("ana@waqtor.example", "active"),
        ("ana@waqtor.example", "completed"),
        ("ana@waqtor.example", "completed"),
    ]
    assert waqtor.query_value("select token from refresh_tokens where id = 1") not in str(listed)
    assert run_command("sessions", "revoke", "ana@waqtor.example")["ended_sessions"] == 2
    assert waqtor.query_value("select count(*) from refresh_tokens where not is_revoked") == 1


@pytest.fixture
def recent_row(waqtor):
    """Add a row of today; without recent rows a cleanup assumes a wrong clock."""
    waqtor.rows("update users set last_login_at = now() where email = 'boss@waqtor.example'")


def test_expired_rows_are_cleaned_up_except_on_demand_rules(run_command, waqtor, recent_row):
    rules = {
        rule["rule"]: rule["matched"]
        for rule in run_command("sessions", "cleanup", "--check", status=3)["items"]
    }
    assert rules == {"stuck-campaigns": 1} | (
        {"expired-tokens": 1, "revoked-tokens": 1, "expired-subscriptions": 1, "expired-trials": 1}
        if waqtor.deployed
        else {}
    )
    run_command("sessions", "cleanup")
    ((status, completed, updated),) = waqtor.rows(
        "select status, completed_at, updated_at from campaigns where id = %s", key("d", 2)
    )
    assert (status, completed is not None, updated.year >= 2026) == ("failed", True, True)
    assert waqtor.query_value("select status from campaigns where id = %s", key("d", 4)) == "running"
    assert waqtor.query_value("select count(*) from messages") == (6 if waqtor.deployed else 5)
    if waqtor.deployed:
        assert waqtor.rows("select id, status from feature_subscriptions order by id") == [
            (1, "expired"),
            (2, "expired"),
            (3, "active"),
        ]
        assert waqtor.rows("select id from refresh_tokens order by id") == [(1,), (2,)]
    run_command("sessions", "cleanup", "--check")


def test_sent_messages_are_deleted_only_on_demand(run_command, waqtor, recent_row):
    (result,) = run_command("sessions", "cleanup", "--rule", "sent-messages")["rules"]
    assert result["changed"] == 1
    remaining = {status for (status,) in waqtor.rows("select status from messages")}
    assert remaining == {"delivered", "failed", "read", "pending"}


def test_stale_whatsapp_sessions_are_closed_only_on_demand(run_command, waqtor, recent_row):
    waqtor.rows("update whatsapp_sessions set updated_at = now() where id = %s", key("b", 3))
    (result,) = run_command("sessions", "cleanup", "--rule", "stale-whatsapp-sessions")["rules"]
    assert result["changed"] == 1
    column = "is_active" if waqtor.deployed else "status"
    assert waqtor.rows(f"select {column} from whatsapp_sessions order by id") == [
        (False if waqtor.deployed else "disconnected",),
        (False if waqtor.deployed else "disconnected",),
        (True if waqtor.deployed else "ready",),
    ]
    assert run_command("sessions", "list", "--state", "abandoned")["total"] == 0


# Searches and reports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["100%"], [1]),
        (["grüße"], [2]),
        (["491700002"], [2]),
        (["--filter", "phone=491700001"], [1, 4]),
        (["--filter", "status=failed"], [3]),
        (["--filter", "status=gone"], []),
        (["--filter", "user=boss"], [2, 4]),
        (["--filter", "session=ana-main", "--filter", "status=sent"], [1]),
        (["--filter", "from=2025-10-22", "--filter", "until=2025-10-23"], [2, 3]),
        (["--filter", "date=2025-10-25"], [5]),
        (["--query", "status:read user:boss"], [4]),
        (["--filter", f"id={key('c', 3)}"], [3]),
        (["--filter", "id=nope"], []),
        (["--sort", "-newest", "--limit", "2", "--filter", "status=failed", "--filter", "status=sent"], [3, 1]),
    ],
)  # fmt: skip
def test_messages_are_searched(run_command, arguments, expected):
    items = run_command("search", "messages", *arguments)["items"]
    assert [message["id"] for message in items] == [key("c", number) for number in expected]


def test_members_of_groups_are_added_by_name_and_number(run_command, waqtor):
    def add(recipient, group, status=0):
        return run_command(
            "data", "add", "recipient_groups", f"recipient_id={recipient}", f"group_id={group}", status=status
        )

    run_command("data", "add", "groups", "user_id=ana@waqtor.example", "name=Choir")
    added = add("491700002", "choir")["row"]
    choir = waqtor.query_value("select id from groups where name = 'Choir' and user_id = %s", ANA)
    assert (added["recipient_id"], added["group_id"]) == (key("e", 2), str(choir))
    assert add("Kim", str(choir))["row"]["recipient_id"] == key("e", 1)
    for recipient, group, status, code in (
        ("491700001", "Choir", 6, "name-ambiguous"),  # each user has this recipient
        (key("e", 3), "Friends", 6, "name-ambiguous"),
        (key("e", 9), "Choir", 5, "object-missing"),
        ("Lee", "Choirs", 5, "object-missing"),
    ):
        assert add(recipient, group, status)["code"] == code
    assert waqtor.query_value("select count(*) from recipient_groups where group_id = %s", choir) == 2


def test_groups_are_found_by_name_member_and_number(run_command, waqtor):
    ((name, member, number),) = waqtor.rows(
        f"""select g.name, r.name, r.{"phone" if waqtor.deployed else "phone_number"} from groups g
        join recipient_groups l on l.group_id = g.id join recipients r on r.id = l.recipient_id order by g.name, r.name limit 1"""
    )
    for arguments in ([name], ["--filter", f"member={member}"], ["--filter", f"member={number}"]):
        assert name in {row["name"] for row in run_command("search", "groups", *arguments)["items"]}
    group = run_command("search", "groups", name)["items"][0]["id"]
    assert run_command("search", "groups", "--id", group)["members"]


def test_user_is_shown_with_sessions_and_latest_messages(run_command, waqtor):
    user = run_command("users", "show", "ana@waqtor.example")
    where = f"where user_id = '{user['id']}'"
    sessions = {str(key) for (key,) in waqtor.rows(f"select id from whatsapp_sessions {where}")}
    assert {row["id"] for row in user["sessions"]} == sessions != set()
    assert user["statistics"]["messages"] == waqtor.query_value(f"select count(*) from messages {where}")
    latest = waqtor.rows(f"select id from messages {where} order by created_at desc limit 1")
    assert [row["id"] for row in user["latest_messages"]][:1] == [str(key) for (key,) in latest]
    assert "qr" not in user["sessions"][0]


def test_messages_are_counted_per_session_and_number(run_command, waqtor):
    total = waqtor.query_value("select count(*) from messages where session_id is not null")
    rows = run_command("stats", "run", "messages-per-session")["items"]
    assert sum(row["messages"] for row in rows) == total > 0
    assert len(rows) == waqtor.query_value("select count(*) from whatsapp_sessions")
    column = "to_phone" if waqtor.deployed else "phone_number"
    numbers = waqtor.rows(f"select {column}, count(*) from messages group by 1")
    rows = run_command("stats", "run", "messages-per-number")["items"]
    assert {(row["number"], row["messages"]) for row in rows} == set(numbers)
    (owner,) = {
        row["owner"]
        for row in run_command("stats", "run", "messages-per-session", "--set", "user=ana@waqtor.example")[
            "items"
        ]
    }
    assert owner == "ana@waqtor.example"


def test_state_is_set_against_the_transitions_only_with_the_option(run_command, waqtor):
    draft = waqtor.query_value("select id from campaigns limit 1")
    waqtor.rows("update campaigns set status = 'draft' where id = %s", draft)
    error = run_command("data", "set", "campaigns", str(draft), "status=completed", status=6)
    assert "--any-state" in error["hint"]
    run_command("data", "set", "campaigns", str(draft), "status=completed", "--any-state")
    assert waqtor.query_value("select status::text from campaigns where id = %s", draft) == "completed"
    assert (
        run_command("data", "set", "campaigns", str(draft), "status=done", "--any-state", status=2)["code"]
        == "value-invalid"
    )
    words = ["data", "set", "campaigns", "--filter", "status=completed", "status=draft", "--any-state"]
    assert run_command(*words, status=2)["code"] == "usage"


def test_email_and_media_type_are_checked_on_every_path(run_command, waqtor, tmp_path):
    recipient = str(waqtor.query_value("select id from recipients limit 1"))
    assert (
        run_command("data", "set", "recipients", recipient, "email=nobody", status=2)["code"]
        == "value-invalid"
    )
    run_command("data", "set", "recipients", recipient, "email=ida@example.org")
    column = "phone" if waqtor.deployed else "phone_number"
    (tmp_path / "rows.csv").write_text(f"id,user_id,{column},email\n{uuid.uuid4()},{ANA},123,nobody\n")
    error = run_command("data", "import", "recipients", str(tmp_path / "rows.csv"), status=2)
    assert "nobody" in str(error)
    if not waqtor.deployed:  # the deployed app has no such column
        message = str(waqtor.query_value("select id from messages limit 1"))
        error = run_command("data", "set", "messages", message, "media_type=sticker", status=2)
        assert "image, video, audio, document" in error["message"]
        waqtor.rows("update messages set media_type = 'sticker' where id = %s", message)
    waqtor.rows("update recipients set email = 'nobody' where id = %s", recipient)
    messages = [item["message"] for item in run_command("integrity", "check")["findings"]]
    assert any("recipients.email" in text and "'nobody'" in text for text in messages)
    assert any("messages.media_type" in text for text in messages) is not waqtor.deployed


def test_added_rows_get_ids(run_command, waqtor):
    added = run_command("data", "add", "groups", f"user_id={ANA}", "name=Neighbours")
    assert uuid.UUID(added["key"]["id"])


def test_message_is_shown_with_user_and_session(run_command, waqtor):
    output = run_command("search", "messages", "--id", key("c", 1))
    assert output["user"] == [{"id": ANA, "email": "ana@waqtor.example", "name": "Ana 安"}]
    assert output["session"][0]["id"] == key("b", 1)
    assert output["body" if waqtor.deployed else "message_text"] == 'Hello 100% "you"'
    assert "SECRET" not in str(output)
    run_command("search", "messages", "--id", "nope", status=5)


def test_missing_key_of_other_variant_is_explained(run_command, waqtor):
    if waqtor.deployed:
        items = run_command("search", "messages", "--filter", "direction=incoming")["items"]
        assert [message["from_phone"] for message in items] == ["491700009@c.us"]
    else:
        refused = run_command("search", "messages", "--filter", "direction=incoming", status=2)
        assert "all messages are sent messages" in refused["hint"]


def test_campaigns_and_recipients_are_searched(run_command, waqtor):
    def names(*words):
        return [item["name"] for item in run_command("search", *words)["items"]]

    assert names("campaigns", "--filter", "status=running") == ["Stuck", "Under way"]
    assert names("campaigns", "spring", "--filter", "user=ana@waqtor.example") == ["Spring"]
    assert names("recipients", "--filter", "group=Friends", "--filter", "user=ana@waqtor.example") == [
        "Kim",
        "Lee",
    ]
    assert names("recipients", "--filter", "phone=491700001") == ["Kim", "Kim of Boss"]
    output = run_command("search", "recipients", "--id", key("e", 1))
    assert (output["groups"], output["user"][0]["email"]) == (["Friends"], "ana@waqtor.example")
    if waqtor.deployed:
        campaign = run_command("search", "campaigns", "--id", key("d", 1))
        assert {recipient["error_message"] for recipient in campaign["recipients"]} == {
            None,
            "no such number",
        }


@pytest.mark.parametrize(
    ("report", "first", "deployed", "document"),
    [
        (["recent-messages"], ["2025-10-28T08:15:30.123Z", "ana@waqtor.example", "4915100001"], 6, 5),
        (["messages-by-user", "--set", "user=boss@waqtor.example"], ["2025-10-24T08:15:30.123Z", "boss@waqtor.example", "491700001", "read"], 2, 2),
        (["failed-messages"], ["2025-10-23T08:15:30.123Z", "ana@waqtor.example", "491700003", "failed", "failed one"], 1, 1),
        (["messages-by-status"], [], 5, 5),
        (["campaigns"], [], 4, 4),
        (["running-campaigns"], ["Stuck", "ana@waqtor.example", "Ana 安", 0, 2], 2, 2),
        (["group-members", "--set", "group=Friends"], ["Friends", "ana@waqtor.example", "Kim", "491700001"], 3, 3),
        (["user-sessions", "--set", "user=ana@waqtor.example"], [], 2, 2),
    ],
)  # fmt: skip
def test_documented_queries_are_reports(run_command, waqtor, report, first, deployed, document):
    rows = run_command("stats", "run", *report)
    assert rows["total"] == (deployed if waqtor.deployed else document)
    if first and (waqtor.deployed or report != ["recent-messages"]):
        assert list(rows["items"][0].values())[: len(first)] == first


def test_messages_per_day_add_up(run_command, waqtor):
    days = run_command("stats", "run", "messages-per-day")["items"]
    assert [day["day"] for day in days] == sorted((day["day"] for day in days), reverse=True)
    assert sum(day["messages"] for day in days) == len(waqtor.rows("select id from messages"))
    assert sum(day["failed"] for day in days) == 1


@pytest.mark.parametrize(
    ("report", "columns"),
    [
        (["failed-messages"], {"error_message"}),
        (["campaigns"], {"failed_count", "scheduled_at", "completed_at"}),
        (["running-campaigns"], {"failed_count", "scheduled_at", "completed_at"}),
        (["user-sessions", "--set", "user=ana@waqtor.example"], {"user_email"}),
    ],
)
def test_report_has_documented_columns(run_command, report, columns):
    assert columns <= set(run_command("stats", "run", *report)["items"][0])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("messages", {"metadata", "updated_at", "user_email"}),
        ("campaigns", {"message_template", "updated_at", "user_email", "user_name"}),
        ("recipients", {"custom_fields", "updated_at"}),
    ],
)
def test_search_has_documented_columns(run_command, waqtor, name, columns):
    items = run_command("search", name)["items"]
    assert columns <= set(items[0])
    users = {str(user): email for user, email in waqtor.rows("select id, email from users")}
    if "user_email" in columns:
        assert all(item["user_email"] == users[item["user_id"]] for item in items)


def test_summary_report_counts_rows(run_command, waqtor):
    waqtor.rows("update messages set created_at = now() - interval '3 days' where status in ('sent', 'read')")
    counts = {
        (row["figure"], row["value"]): row["number"]
        for row in run_command("stats", "run", "summary")["items"]
    }
    assert counts["users", "total"] == 5
    assert (counts["users by role", "admin"], counts["users", "active"]) == (2, 4)
    assert (counts["sessions", "active"], counts["sessions", "ready"]) == (
        (2, 1) if waqtor.deployed else (2, 2)
    )
    assert (counts["messages", "last day"], counts["messages", "last 7 days"]) == (0, 2)
    assert counts["messages by status", "failed"] == 1
    assert (counts["campaigns by status", "running"], counts["recipients", "active"], counts["groups", "total"]) == (2, 2, 2)  # fmt: skip
    changed = run_command("stats", "run", "summary", "--set", "day=30d", "--set", "week=2020-01-01")["items"]
    counts = {(row["figure"], row["value"]): row["number"] for row in changed}
    assert (counts["messages", "last day"], counts["messages", "last 7 days"]) == (
        2,
        6 if waqtor.deployed else 5,
    )
    assert run_command("stats", "run", "summary", "--set", "day=soon", status=2)["code"] == "value-invalid"


# Published secrets and invariants ---------------------------------------------------------------------------------


def test_known_secrets_and_violations_are_reported_without_values(run_command, waqtor, tmp_path):
    waqtor.rows("update users set email = 'test@admin.com' where id = %s", ANA)
    run_command("users", "set-password", "test@admin.com", "--password-stdin", stdin="admin123\n")
    legacy = f"legacy={shapes.legacy(tmp_path / 'waqtor.db')}"
    findings = run_command("doctor", status=4, urls=[legacy])["findings"]
    counts = {finding["code"]: 0 for finding in findings}
    for finding in findings:
        counts[finding["code"]] += 1
    assert counts.get("known-login") == 1
    assert counts.get("known-secret") == (3 if waqtor.deployed else 1)
    assert counts.get("invariant-violated") == (2 if waqtor.deployed else 1)
    for secret in ("admin123", "test-api-key-123", "waqtor_default_key", "e8452f08", "330022", "$2"):
        assert secret not in str(findings)


def test_hint_for_known_secret_is_working_command(run_command, waqtor, tmp_path):
    legacy = f"legacy={shapes.legacy(tmp_path / 'waqtor.db')}"
    findings = run_command("doctor", status=None, urls=[legacy])["findings"]
    for finding in findings:
        if finding["code"] == "known-secret":
            key = re.search(r"id (\d+)", finding["message"])[1]
            (command,) = re.findall(r"dbctl (data set .*?)(?:[:.,] | deactivates|,|\.$|$)", finding["hint"])
            run_command(*command.replace(" ID ", f" {key} ").split(), urls=[legacy])
    assert "known-secret" in {finding["code"] for finding in findings}
    assert "known-secret" not in {
        finding["code"] for finding in run_command("doctor", status=None, urls=[legacy])["findings"]
    }


@only_deployed
def test_valid_deployment_has_no_findings(run_command, waqtor, recent_row):
    waqtor.rows("update access_codes set is_active = false")
    waqtor.rows("update api_keys set is_active = false")
    waqtor.rows("update campaigns set sent_count = 1 where status = 'running'")
    run_command("sessions", "cleanup")
    codes = {finding["code"] for finding in run_command("doctor", status=None)["findings"]}
    assert not codes & {"known-secret", "invariant-violated", "cleanup-due", "known-login", "no-admin"}


# Stored values ----------------------------------------------------------------------------------------------------


@only_deployed
def test_json_and_array_values_are_shown_as_stored(run_command):
    output = run_command("search", "recipients", "--id", key("e", 1))
    assert output["tags"] == ["vip", "two words", "a,b", 'q"uote']
    assert output["custom_fields"] == '{"city": "Köln"}'


# Baseline of databases without a ledger ---------------------------------------------------------------------------

NEWEST = (
    "recipient_groups", "groups", "feature_subscriptions", "access_codes", "feature_access_logs", "api_keys", "refresh_tokens",
)  # fmt: skip


def drop_tables(waqtor, tables):
    """Drop tables and types that later versions of the app created."""
    waqtor.rows(f"drop table {', '.join(tables)}")
    if not waqtor.deployed:
        return
    for name in ("feature_subscriptions_status", "feature_subscriptions_subscription_type", "access_codes_subscription_type",
                 "feature_access_logs_access_type", "feature_access_logs_status"):  # fmt: skip
        waqtor.rows(f"drop type enum_{name}")


@pytest.mark.parametrize(
    ("waqtor", "dropped_tables", "adopted"),
    [
        ("deployed", (), 3),
        ("deployed", NEWEST[2:], 2),
        ("deployed", NEWEST, 1),
        ("document", (), 3),
        ("document", ("recipient_groups", "groups", "recipients", "campaigns"), 1),
    ],
    indirect=["waqtor"],
)
def test_older_deployments_are_baselined_and_migrated(run_command, waqtor, dropped_tables, adopted):
    if dropped_tables:
        drop_tables(waqtor, dropped_tables)
    assert [migration["state"] for migration in run_command("migrate", "status")["items"]] == ["pending"] * 3
    refused = run_command("migrate", "up", status=6)
    assert (refused["code"], "migrate baseline" in refused["hint"]) == ("ledger-missing", True)
    plan = run_command("migrate", "baseline", "--dry-run")["plan"]
    assert plan["rows"] == {"schema_migrations": adopted}
    assert waqtor.query_value("select to_regclass('schema_migrations')") is None
    result = run_command("migrate", "baseline")
    assert [migration["name"][:3] for migration in result["items"]] == ["001", "002", "003"][:adopted]
    assert run_command("migrate", "baseline")["items"] == []
    states = [migration["state"] for migration in run_command("migrate", "status")["items"]]
    assert states == ["applied"] * adopted + ["pending"] * (3 - adopted)
    assert len(run_command("migrate", "up")["items"]) == 3 - adopted
    assert run_command("migrate", "drift")["findings"] == []
    assert run_command("apps", "check")["findings"] == []
    assert waqtor.query_value("select count(*) from users") == 5


@only_deployed
def test_small_differences_are_baselined_and_reported(run_command, waqtor):
    waqtor.rows("drop index messages_to_phone")
    waqtor.rows("alter table users add column nick text")
    assert run_command("migrate", "baseline")["differences"] == 1
    assert {finding["code"] for finding in run_command("migrate", "drift")["findings"]} == {
        "index-missing",
        "column-extra",
    }


def test_baseline_accepts_only_matching_variant(run_command, waqtor):
    other = "document" if waqtor.deployed else "deployed"
    assert (
        run_command("migrate", "baseline", "--variant", other, status=6)["code"]
        == "migration-variant-mismatch"
    )
    assert waqtor.query_value("select to_regclass('schema_migrations')") is None
    assert len(run_command("migrate", "baseline", "--variant", waqtor.variant)["items"]) == 3
    assert run_command("migrate", "verify")["findings"] == []
    assert {migration["state"] for migration in run_command("migrate", "status", "--check")["items"]} == {
        "applied"
    }


@only_deployed
def test_partially_applied_migration_is_refused(run_command, waqtor):
    waqtor.rows("drop table recipient_groups, groups")
    refused = run_command("migrate", "baseline", status=6)
    assert (refused["code"], "after 001_accounts" in refused["message"]) == ("migrations-mismatch", True)
    assert waqtor.query_value("select to_regclass('schema_migrations')") is None


@only_deployed
def test_repeated_constraints_are_reported_with_drop_statements(run_command, waqtor):
    def repeated_constraints():
        findings = run_command("doctor", status=None)["findings"]
        return [finding for finding in findings if finding["code"] == "duplicate-constraint"]

    assert repeated_constraints() == []
    for number in (1, 2):
        waqtor.rows(f"alter table users add constraint users_email_key{number} unique (email)")
    (finding,) = repeated_constraints()
    assert "users_email_key1, users_email_key2" in finding["message"]
    assert run_command("migrate", "baseline")["items"]
    extra = run_command("migrate", "drift")["findings"]
    assert [finding["code"] for finding in extra] == ["index-extra", "index-extra"]
    waqtor.rows(finding["hint"])
    assert repeated_constraints() == run_command("migrate", "drift")["findings"] == []
    assert waqtor.rows("select conname from pg_constraint where conrelid = 'users'::regclass and contype = 'u'") == [
        ("users_email_key",)
    ]  # fmt: skip


# Transfer of rows -------------------------------------------------------------------------------------------------


def test_rows_except_keys_and_tokens_are_transferred(run_command, waqtor):
    tables = ["whatsapp_sessions", "messages", "campaigns", "recipients", "groups"]
    waqtor.rows("update groups set name = 'Group of Ana' where user_id = %s", ANA)
    owned = {
        table: waqtor.query_value(f"select count(*) from {table} where user_id = %s", ANA) for table in tables
    }
    before = {table: waqtor.query_value(f"select count(*) from {table}") for table in tables}
    phone = "phone" if waqtor.deployed else "phone_number"
    duplicate_count = waqtor.query_value(
        f"select count(*) from recipients a join recipients b using ({phone}) where a.user_id = %s and b.user_id = %s",
        ANA,
        BOSS,
    )
    arguments = ["users", "delete", "ana@waqtor.example", "--transfer-to", "boss@waqtor.example"]
    for refused in (
        run_command(*arguments, "--dry-run", status=6),
        run_command(*arguments, "--yes", status=6),
    ):
        assert refused["code"] == "duplicate-rows"
        assert f"{duplicate_count} row" in refused["message"]
        assert f"recipients ({phone})" in refused["message"]
    assert (
        waqtor.query_value("select count(*) from recipients where user_id = %s", ANA) == owned["recipients"]
    )
    arguments.append("--delete-duplicates")
    plan = run_command(*arguments, "--dry-run")["plan"]
    assert f"recipients, which boss@waqtor.example has too ({phone})" in " ".join(plan["steps"])
    result = run_command(*arguments, "--yes")
    assert result["duplicates"]["recipients"] == duplicate_count
    assert result["transferred"]["messages"] == owned["messages"] > 0
    assert result["transferred"]["recipients"] == owned["recipients"] - duplicate_count
    assert duplicate_count, "there are recipients of both users"
    before["recipients"] -= duplicate_count
    for table in tables:
        assert waqtor.query_value(f"select count(*) from {table}") == before[table], table
        assert waqtor.query_value(f"select count(*) from {table} where user_id = %s", ANA) == 0
    if waqtor.deployed:
        assert waqtor.query_value("select count(*) from refresh_tokens where user_id = %s", ANA) == 0
        assert waqtor.query_value("select count(*) from api_keys where user_id in (%s, %s)", ANA, BOSS) < 3
    assert plan["rows"] == result["rows"]
