"""WaQtor in the shape that is deployed and in that of its document: every ability works on both."""

from __future__ import annotations

import io
import re
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests import servers
from tests.shapes import waqtor as shapes
from tests.shapes.waqtor import ANA, BOSS, NOBODY, PASSWORD, key

FAR_BACK = datetime(2020, 1, 1, tzinfo=UTC)


class Deployment:
    """One database of WaQtor on a server."""

    def __init__(self, shape, url, connection):
        self.shape, self.url = shape, servers.text(url)
        self._connection = connection

    @property
    def deployed(self):
        return self.shape == "deployed"

    def rows(self, sql, *given):
        done = self._connection.execute(sql, given)
        return done.fetchall() if done.description else []

    def one(self, sql, *given):
        ((value,),) = self.rows(sql, *given)
        return value


def deployment(shape):
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
        getattr(shapes, shape)(connection)
        connection.execute("set timezone = 'UTC'")
        yield Deployment(shape, url, connection)


@pytest.fixture(params=["deployed", "document"])
def waqtor(request):
    yield from deployment(request.param)


only_deployed = pytest.mark.parametrize("waqtor", ["deployed"], indirect=True)


@pytest.fixture
def ask(waqtor, answer, monkeypatch):
    """Runs a command on the deployment of the test; returns its ``data``, or its error where it is to fail."""

    def run(*words, stdin="", status=0, urls=()):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        named = [word for one in urls for word in ("--url", one)]
        told = answer("--profile", "waqtor", "--url", f"main={waqtor.url}", *named, *words, status=status)
        return told["error"] or told["data"]

    return run


# The profile and the schema ---------------------------------------------------------------------------------------


def test_its_profile_fits_both_shapes(ask, tmp_path):
    legacy = f"legacy={shapes.legacy(tmp_path / 'waqtor.db')}"
    assert ask("apps", "check", urls=[legacy])["findings"] == []


@only_deployed
def test_a_shape_that_the_profile_does_not_know_is_told(ask, waqtor):
    waqtor.rows("alter table whatsapp_sessions rename column is_active to active")
    found = ask("apps", "check", status=4)["findings"]
    assert [one["message"].partition(" (")[0] for one in found if one["code"] == "shape-unknown"] == [
        "no shape of stale-whatsapp-sessions fits whatsapp_sessions: is_active, is_ready, or status",
        "no shape of whatsapp fits whatsapp_sessions: is_active, or status",
    ]
    assert ask("sessions", "list", status=2)["code"] == "schema-lacks"


@pytest.mark.parametrize(("shape", "words"), [("deployed", []), ("document", ["--variant", "document"])])
def test_its_migrations_make_the_schema_of_either_shape(answer, shape, words):
    with servers.postgresql_schema() as made, servers.postgresql_schema() as wanted:
        with closing(servers.connection(wanted)) as connection:
            getattr(shapes, shape)(connection, rows=False)
        app = ["--profile", "waqtor", "--url", f"main={servers.text(made)}"]
        done = answer(*app, "migrate", "up", *words)["data"]["items"]
        assert [one["name"][:3] for one in done] == ["001", "002", "003"]
        assert answer(*app, "migrate", "drift")["data"]["findings"] == []
        with closing(servers.connection(made)) as connection:
            connection.execute("drop table schema_migrations")
        assert catalogue(made) == catalogue(wanted)


def test_the_migrations_of_the_former_database_make_what_the_app_makes(answer, tmp_path):
    app = ["--profile", "waqtor", "--url", f"legacy={tmp_path / 'new.db'}"]
    answer(*app, "migrate", "up", "--db", "legacy")
    (tmp_path / "theirs").mkdir()
    shapes.legacy(tmp_path / "theirs" / "waqtor.db")
    theirs = ["--profile", "waqtor", "--url", f"legacy={tmp_path / 'theirs/waqtor.db'}"]
    tables = {
        one["table"]: one["indexes"]
        for one in answer(*app, "stats", "tables", "--db", "legacy")["data"]["items"]
    }
    tables.pop("schema_migrations")
    made = {
        one["table"]: one["indexes"]
        for one in answer(*theirs, "stats", "tables", "--db", "legacy")["data"]["items"]
    }
    made.pop("session_state")  # the app makes it when it first looks at a session
    assert tables == made


def catalogue(url):
    """Return what a server tells of every table, its columns, constraints and indexes, without the schema's name."""
    with closing(servers.connection(url)) as connection:
        told = connection.execute("""
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
    return sorted(tuple(text.replace(f"{schema}.", "") for text in row) for row in told)


# Users --------------------------------------------------------------------------------------------------------------


def test_its_users_are_listed_with_what_the_app_wrote_of_them(ask):
    everybody = ask("users", "list")["items"]
    assert [(one["login"], one["name"], one["role"], one["active"]) for one in everybody] == [
        ("boss@waqtor.example", "Boss", "admin", True),
        ("ana@waqtor.example", "Ana 安", "user", True),
        ("Vic@waqtor.example", None, "viewer", True),
        ("off@waqtor.example", "Off", "user", False),
        ("admin@waqtor.local", "System Admin", "admin", True),
    ]
    times = ("2025-10-02T08:15:30.123Z", "2025-11-10T08:15:30.123Z")
    assert (everybody[0]["created_at"], everybody[0]["last_login_at"]) == times


def test_a_new_user_is_one_that_the_app_could_have_added(ask, waqtor):
    made = ask(
        "users", "create", "new@x.example", "--name", "New", "--role", "viewer", "--password-stdin",
        stdin="secret 1\n",
    )  # fmt: skip
    assert uuid.UUID(made["user"]["id"]).version == 4
    ((created, updated, role, active, hashed),) = waqtor.rows(
        "select created_at, updated_at, role, is_active, password_hash from users where email = 'new@x.example'"
    )
    now = datetime.now(UTC) if created.tzinfo else datetime.now(UTC).replace(tzinfo=None)
    assert timedelta(0) <= now - created < timedelta(minutes=1)
    assert (updated, role, active) == (created, "viewer", True)
    assert re.match(r"\$2[ab]\$10\$", hashed)
    assert ask("users", "check-password", "new@x.example", "--password-stdin", stdin="secret 1\n")["matches"]


def test_the_app_s_rules_for_passwords_and_addresses_hold(ask):
    for address, password in (("a@x.example", "12345"), ("no address", "123456"), ("a@x.example", "ä" * 37)):
        ask("users", "create", address, "--password-stdin", stdin=f"{password}\n", status=2)
    ask("users", "create", "a@x.example", "--password-stdin", stdin="123456\n")
    ask("users", "create", "a@x.example", "--password-stdin", stdin="123456\n", status=6)


def test_addresses_that_differ_in_case_are_different_users(ask, waqtor):
    ask("users", "create", "Boss@waqtor.example", "--role", "viewer", "--password-stdin", stdin="123456\n")
    assert ask("users", "show", "boss@waqtor.example")["id"] == BOSS
    assert ask("users", "show", "Boss@waqtor.example")["role"] == "viewer"
    refused = ask("users", "show", "BOSS@waqtor.example", status=6)
    assert (refused["code"], BOSS in refused["message"]) == ("login-ambiguous", True)
    assert ask("users", "show", "ANA@waqtor.example")["id"] == ANA
    ask("users", "set-role", "Boss@waqtor.example", "user")
    assert waqtor.one("select role from users where id = %s", BOSS) == "admin"


def test_a_role_that_there_is_not_is_refused_and_one_that_came_later_is_taken(ask, waqtor):
    refused = ask("users", "set-role", "ana@waqtor.example", "superuser", status=5)
    assert "admin, user, viewer" in refused["hint"]
    assert [(one["name"], one["users"]) for one in ask("roles", "list")["items"]] == [
        ("admin", 2),
        ("user", 2),
        ("viewer", 1),
    ]
    if waqtor.deployed:
        waqtor.rows("alter type enum_users_role add value 'auditor'")
        assert ask("users", "set-role", "ana@waqtor.example", "auditor")["users"][0]["role"] == "auditor"


def test_an_account_with_an_impossible_hash_is_dealt_with_like_any_other(ask):
    login = "admin@waqtor.local"
    ask("users", "check-password", login, "--password-stdin", stdin="dummy\n", status=1)
    assert ask("users", "show", login)["id"] == NOBODY
    ask("users", "set-password", login, "--password-stdin", stdin="possible\n")
    ask("users", "check-password", login, "--password-stdin", stdin="possible\n")


def test_what_bcryptjs_wrote_is_read(ask):
    assert ask("users", "check-password", "ana@waqtor.example", "--password-stdin", stdin=f"{PASSWORD}\n")[
        "matches"
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["set-password", "ana@waqtor.example", "--password-stdin"],
        ["set-role", "ana@waqtor.example", "viewer"],
        ["deactivate", "ana@waqtor.example"],
    ],
)
def test_what_the_app_lets_go_on_ends_with_a_password_a_role_or_an_account(ask, waqtor, words):
    done = ask("users", *words, stdin="another one\n")
    assert done["ended_sessions"] == (2 if waqtor.deployed else 0)
    if waqtor.deployed:
        assert waqtor.rows("select id, is_revoked, updated_at > now() - interval '1 minute' from refresh_tokens order by id") == [
            (1, False, False), (2, True, True), (3, True, False), (4, True, True),
        ]  # fmt: skip


def test_its_last_admin_stays(ask, waqtor):
    ask("users", "deactivate", "admin@waqtor.local")
    for words in (
        ["set-role", "boss@waqtor.example", "user"],
        ["deactivate", "boss@waqtor.example"],
        ["delete", "boss@waqtor.example", "--yes"],
    ):
        assert ask("users", *words, status=6)["code"] == "last-admin"


def test_a_user_is_deleted_with_all_that_is_theirs(ask, waqtor):
    plan = ask("users", "delete", "ana@waqtor.example", "--dry-run")["plan"]
    assert plan["rows"]["messages"] == (4 if waqtor.deployed else 3)
    done = ask("users", "delete", "ana@waqtor.example", "--yes")["rows"]
    assert done == plan["rows"]
    assert waqtor.one("select count(*) from messages where user_id = %s", ANA) == 0
    assert waqtor.one("select count(*) from recipient_groups") == 1
    if waqtor.deployed:
        assert waqtor.rows("select user_id from feature_access_logs") == [(None,)]


def test_users_go_out_and_come_in_again(ask, waqtor, tmp_path):
    assert len(ask("users", "export")["items"]) == 5
    (tmp_path / "in.csv").write_text(
        "email,name,role\nzoe@x.example,Zoë,viewer\nZoe@x.example,,\n", encoding="utf-8"
    )
    assert ask("users", "import", str(tmp_path / "in.csv"), "--generate")["added"] == 2
    assert waqtor.rows(
        "select name, role::text from users where email ilike 'zoe@x.example' order by role"
    ) == [
        (None, "user"),
        ("Zoë", "viewer"),
    ]
    assert (
        waqtor.one("select count(*) from users where id is null or created_at is null or updated_at is null")
        == 0
    )


# Sessions, and rows that have had their day ---------------------------------------------------------------------------


def test_its_whatsapp_sessions_are_listed_by_what_has_become_of_them(ask, waqtor):
    waqtor.rows("update whatsapp_sessions set updated_at = now() where id = %s", key("b", 3))
    listed = ask("sessions", "list", "--sort", "id")["items"]
    assert [(one["user"], one["state"], one["name"], one["phone"]) for one in listed] == [
        (
            "ana@waqtor.example",
            "abandoned",
            "Main" if waqtor.deployed else "ana-main",
            "4915100001",
        ),
        ("ana@waqtor.example", "completed", "Old" if waqtor.deployed else "ana-old", None),
        ("boss@waqtor.example", "active", None if waqtor.deployed else "boss", "4915100002"),
    ]
    for state, number in (("active", 1), ("abandoned", 1), ("completed", 1)):
        assert ask("sessions", "list", "--state", state)["total"] == number
    assert ask("sessions", "list", "--user", "ana@waqtor.example")["total"] == 2
    assert "SECRET" not in str(listed)


def test_its_campaigns_are_listed_as_what_users_do_for_a_while(ask):
    listed = ask("sessions", "list", "--kind", "campaigns", "--sort", "id")["items"]
    assert [(one["name"], one["state"], one["status"]) for one in listed] == [
        ("Spring", "completed", "completed"),
        ("Stuck", "abandoned", "running"),
        ("Under way", "active", "running"),
    ]
    assert ask("sessions", "list", "--kind", "campaigns", "--state", "abandoned")["total"] == 1
    assert ask("sessions", "list", "--kind", "campaigns", "--state", "active")["total"] == 1
    refused = ask("sessions", "list", "--kind", "plays", status=2)
    assert "known: whatsapp, sign-ins, campaigns" in refused["message"]


def test_its_sign_ins_are_listed_and_revoked(ask, waqtor):
    if not waqtor.deployed:
        assert ask("sessions", "list", "--kind", "sign-ins", status=2)["code"] == "schema-lacks"
        assert ask("sessions", "revoke", "ana@waqtor.example", status=2)["code"] == "not-supported"
        assert ask("users", "show", "ana@waqtor.example")["tokens"] is None
        return
    assert ask("users", "show", "ana@waqtor.example")["tokens"] == {"valid": 1, "expired": 1, "revoked": 1}
    listed = ask("sessions", "list", "--kind", "sign-ins", "--sort", "id")["items"]
    assert [(one["user"], one["state"]) for one in listed] == [
        ("boss@waqtor.example", "active"),
        ("ana@waqtor.example", "active"),
        ("ana@waqtor.example", "completed"),
        ("ana@waqtor.example", "completed"),
    ]
    assert waqtor.one("select token from refresh_tokens where id = 1") not in str(listed)
    assert ask("sessions", "revoke", "ana@waqtor.example")["ended_sessions"] == 2
    assert waqtor.one("select count(*) from refresh_tokens where not is_revoked") == 1


@pytest.fixture
def in_use(waqtor):
    """An app in use: without a row of today, a cleanup doubts the clock."""
    waqtor.rows("update users set last_login_at = now() where email = 'boss@waqtor.example'")


def test_what_has_had_its_day_is_cleaned_up_and_what_only_an_admin_asks_for_is_left(ask, waqtor, in_use):
    rules = {one["rule"]: one["matched"] for one in ask("sessions", "cleanup", "--check", status=3)["items"]}
    assert rules == {"stuck-campaigns": 1} | (
        {"expired-tokens": 1, "revoked-tokens": 1, "expired-subscriptions": 1, "expired-trials": 1}
        if waqtor.deployed
        else {}
    )
    ask("sessions", "cleanup")
    ((status, completed, updated),) = waqtor.rows(
        "select status, completed_at, updated_at from campaigns where id = %s", key("d", 2)
    )
    assert (status, completed is not None, updated.year >= 2026) == ("failed", True, True)
    assert waqtor.one("select status from campaigns where id = %s", key("d", 4)) == "running"
    assert waqtor.one("select count(*) from messages") == (6 if waqtor.deployed else 5)
    if waqtor.deployed:
        assert waqtor.rows("select id, status from feature_subscriptions order by id") == [
            (1, "expired"),
            (2, "expired"),
            (3, "active"),
        ]
        assert waqtor.rows("select id from refresh_tokens order by id") == [(1,), (2,)]
    ask("sessions", "cleanup", "--check")


def test_messages_that_were_sent_go_only_when_asked_for_and_no_others(ask, waqtor, in_use):
    (done,) = ask("sessions", "cleanup", "--rule", "sent-messages")["rules"]
    assert done["changed"] == 1
    left = {status for (status,) in waqtor.rows("select status from messages")}
    assert left == {"delivered", "failed", "read", "pending"}


def test_whatsapp_sessions_that_nobody_used_are_put_to_rest_only_when_asked_for(ask, waqtor, in_use):
    waqtor.rows("update whatsapp_sessions set updated_at = now() where id = %s", key("b", 3))
    (done,) = ask("sessions", "cleanup", "--rule", "stale-whatsapp-sessions")["rules"]
    assert done["changed"] == 1
    column = "is_active" if waqtor.deployed else "status"
    assert waqtor.rows(f"select {column} from whatsapp_sessions order by id") == [
        (False if waqtor.deployed else "disconnected",),
        (False if waqtor.deployed else "disconnected",),
        (True if waqtor.deployed else "ready",),
    ]
    assert ask("sessions", "list", "--state", "abandoned")["total"] == 0


# Searches and reports ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
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
def test_its_messages_are_searched(ask, words, found):
    items = ask("search", "messages", *words)["items"]
    assert [one["id"] for one in items] == [key("c", number) for number in found]


def test_a_message_is_shown_with_its_user_and_its_session(ask, waqtor):
    shown = ask("search", "messages", "--id", key("c", 1))
    assert shown["user"] == [{"id": ANA, "email": "ana@waqtor.example", "name": "Ana 安"}]
    assert shown["session"][0]["id"] == key("b", 1)
    assert shown["body" if waqtor.deployed else "message_text"] == 'Hello 100% "you"'
    assert "SECRET" not in str(shown)
    ask("search", "messages", "--id", "nope", status=5)


def test_what_only_one_shape_has_is_told_where_it_is_missing(ask, waqtor):
    if waqtor.deployed:
        items = ask("search", "messages", "--filter", "direction=incoming")["items"]
        assert [one["from_phone"] for one in items] == ["491700009@c.us"]
    else:
        refused = ask("search", "messages", "--filter", "direction=incoming", status=2)
        assert "every message is one that was sent" in refused["hint"]


def test_its_campaigns_and_recipients_are_searched(ask, waqtor):
    def names(*words):
        return [one["name"] for one in ask("search", *words)["items"]]

    assert names("campaigns", "--filter", "status=running") == ["Stuck", "Under way"]
    assert names("campaigns", "spring", "--filter", "user=ana@waqtor.example") == ["Spring"]
    assert names("recipients", "--filter", "group=Friends", "--filter", "user=ana@waqtor.example") == [
        "Kim",
        "Lee",
    ]
    assert names("recipients", "--filter", "phone=491700001") == ["Kim", "Kim of Boss"]
    shown = ask("search", "recipients", "--id", key("e", 1))
    assert (shown["groups"], shown["user"][0]["email"]) == (["Friends"], "ana@waqtor.example")
    if waqtor.deployed:
        whole = ask("search", "campaigns", "--id", key("d", 1))
        assert {one["error_message"] for one in whole["recipients"]} == {None, "no such number"}


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
def test_what_the_document_asks_of_its_tables_is_a_report(ask, waqtor, report, first, deployed, document):
    told = ask("stats", "run", *report)
    assert told["total"] == (deployed if waqtor.deployed else document)
    if first and (waqtor.deployed or report != ["recent-messages"]):
        assert list(told["items"][0].values())[: len(first)] == first


def test_messages_per_day_add_up(ask, waqtor):
    days = ask("stats", "run", "messages-per-day")["items"]
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
def test_a_report_has_every_column_that_the_document_asks_for(ask, report, columns):
    assert columns <= set(ask("stats", "run", *report)["items"][0])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("messages", {"metadata", "updated_at", "user_email"}),
        ("campaigns", {"message_template", "updated_at", "user_email", "user_name"}),
        ("recipients", {"custom_fields", "updated_at"}),
    ],
)
def test_a_search_has_every_column_that_the_document_asks_for(ask, waqtor, name, columns):
    items = ask("search", name)["items"]
    assert columns <= set(items[0])
    users = {str(user): email for user, email in waqtor.rows("select id, email from users")}
    if "user_email" in columns:
        assert all(item["user_email"] == users[item["user_id"]] for item in items)


def test_a_deployment_is_told_in_figures(ask, waqtor):
    waqtor.rows("update messages set created_at = now() - interval '3 days' where status in ('sent', 'read')")
    told = {(one["figure"], one["value"]): one["number"] for one in ask("stats", "run", "summary")["items"]}
    assert told["users", "total"] == 5
    assert (told["users by role", "admin"], told["users", "active"]) == (2, 4)
    assert (told["sessions", "active"], told["sessions", "ready"]) == ((2, 1) if waqtor.deployed else (2, 2))
    assert (told["messages", "last day"], told["messages", "last 7 days"]) == (0, 2)
    assert told["messages by status", "failed"] == 1
    assert (told["campaigns by status", "running"], told["recipients", "active"], told["groups", "total"]) == (2, 2, 2)  # fmt: skip
    changed = ask("stats", "run", "summary", "--set", "day=30d", "--set", "week=2020-01-01")["items"]
    told = {(one["figure"], one["value"]): one["number"] for one in changed}
    assert (told["messages", "last day"], told["messages", "last 7 days"]) == (
        2,
        6 if waqtor.deployed else 5,
    )
    assert ask("stats", "run", "summary", "--set", "day=soon", status=2)["code"] == "value-invalid"


# What everybody can know, and rows that should not be ----------------------------------------------------------------------


def test_known_secrets_and_flawed_rows_are_found_and_never_shown(ask, waqtor, tmp_path):
    waqtor.rows("update users set email = 'test@admin.com' where id = %s", ANA)
    ask("users", "set-password", "test@admin.com", "--password-stdin", stdin="admin123\n")
    legacy = f"legacy={shapes.legacy(tmp_path / 'waqtor.db')}"
    told = ask("doctor", status=4, urls=[legacy])["findings"]
    found = {one["code"]: 0 for one in told}
    for one in told:
        found[one["code"]] += 1
    assert found.get("known-login") == 1
    assert found.get("known-secret") == (3 if waqtor.deployed else 1)
    assert found.get("flaw") == (2 if waqtor.deployed else 1)
    for secret in ("admin123", "test-api-key-123", "waqtor_default_key", "e8452f08", "330022", "$2"):
        assert secret not in str(told)


def test_what_doctor_advises_about_a_known_secret_is_a_command_that_helps(ask, waqtor, tmp_path):
    legacy = f"legacy={shapes.legacy(tmp_path / 'waqtor.db')}"
    found = ask("doctor", status=None, urls=[legacy])["findings"]
    for one in found:
        if one["code"] == "known-secret":
            key = re.search(r"id (\d+)", one["message"])[1]
            (command,) = re.findall(r"dbctl (data set .*?)(?:[:.,] | switches|,|\.$|$)", one["hint"])
            ask(*command.replace(" ID ", f" {key} ").split(), urls=[legacy])
    assert "known-secret" in {one["code"] for one in found}
    assert "known-secret" not in {
        one["code"] for one in ask("doctor", status=None, urls=[legacy])["findings"]
    }


@only_deployed
def test_a_deployment_that_is_well_gives_nothing_to_complain_of(ask, waqtor, in_use):
    waqtor.rows("update access_codes set is_active = false")
    waqtor.rows("update api_keys set is_active = false")
    waqtor.rows("update campaigns set sent_count = 1 where status = 'running'")
    ask("sessions", "cleanup")
    codes = {one["code"] for one in ask("doctor", status=None)["findings"]}
    assert not codes & {"known-secret", "flaw", "cleanup-due", "known-login", "no-admin"}


# What is written, and what the app's own constraints take --------------------------------------------------------------------


@only_deployed
def test_rows_with_json_and_arrays_are_shown_as_the_app_wrote_them(ask):
    shown = ask("search", "recipients", "--id", key("e", 1))
    assert shown["tags"] == ["vip", "two words", "a,b", 'q"uote']
    assert shown["custom_fields"] == '{"city": "Köln"}'


# A ledger for a database that was made without one -----------------------------------------------------------------------------

NEWEST = (
    "recipient_groups", "groups", "feature_subscriptions", "access_codes", "feature_access_logs", "api_keys", "refresh_tokens",
)  # fmt: skip


def go_back(waqtor, tables):
    """Take away what the app's later versions made."""
    waqtor.rows(f"drop table {', '.join(tables)}")
    if not waqtor.deployed:
        return
    for name in ("feature_subscriptions_status", "feature_subscriptions_subscription_type", "access_codes_subscription_type",
                 "feature_access_logs_access_type", "feature_access_logs_status"):  # fmt: skip
        waqtor.rows(f"drop type enum_{name}")


@pytest.mark.parametrize(
    ("waqtor", "gone", "adopted"),
    [
        ("deployed", (), 3),
        ("deployed", NEWEST[2:], 2),
        ("deployed", NEWEST, 1),
        ("document", (), 3),
        ("document", ("recipient_groups", "groups", "recipients", "campaigns"), 1),
    ],
    indirect=["waqtor"],
)
def test_a_deployment_of_any_age_gets_a_ledger_and_what_it_lacks_is_run_then(ask, waqtor, gone, adopted):
    if gone:
        go_back(waqtor, gone)
    assert [one["state"] for one in ask("migrate", "status")["items"]] == ["pending"] * 3
    refused = ask("migrate", "up", status=6)
    assert (refused["code"], "migrate baseline" in refused["hint"]) == ("ledger-missing", True)
    plan = ask("migrate", "baseline", "--dry-run")["plan"]
    assert plan["rows"] == {"schema_migrations": adopted}
    assert waqtor.one("select to_regclass('schema_migrations')") is None
    done = ask("migrate", "baseline")
    assert [one["name"][:3] for one in done["items"]] == ["001", "002", "003"][:adopted]
    assert ask("migrate", "baseline")["items"] == []
    states = [one["state"] for one in ask("migrate", "status")["items"]]
    assert states == ["applied"] * adopted + ["pending"] * (3 - adopted)
    assert len(ask("migrate", "up")["items"]) == 3 - adopted
    assert ask("migrate", "drift")["findings"] == []
    assert ask("apps", "check")["findings"] == []
    assert waqtor.one("select count(*) from users") == 5


@only_deployed
def test_what_differs_a_little_is_adopted_and_told(ask, waqtor):
    waqtor.rows("drop index messages_to_phone")
    waqtor.rows("alter table users add column nick text")
    assert ask("migrate", "baseline")["differences"] == 1
    assert {one["code"] for one in ask("migrate", "drift")["findings"]} == {"index-missing", "column-extra"}


def test_a_schema_is_adopted_as_the_shape_that_it_is_and_as_no_other(ask, waqtor):
    other = "document" if waqtor.deployed else "deployed"
    assert ask("migrate", "baseline", "--variant", other, status=6)["code"] == "migration-shape-other"
    assert waqtor.one("select to_regclass('schema_migrations')") is None
    assert len(ask("migrate", "baseline", "--variant", waqtor.shape)["items"]) == 3
    assert ask("migrate", "verify")["findings"] == []
    assert {one["state"] for one in ask("migrate", "status", "--check")["items"]} == {"applied"}


@only_deployed
def test_what_only_part_of_a_later_migration_made_is_refused(ask, waqtor):
    waqtor.rows("drop table recipient_groups, groups")
    refused = ask("migrate", "baseline", status=6)
    assert (refused["code"], "after 001_accounts" in refused["message"]) == ("migrations-unfit", True)
    assert waqtor.one("select to_regclass('schema_migrations')") is None


@only_deployed
def test_constraints_that_the_app_s_library_adds_at_every_start_are_told_with_what_drops_them(ask, waqtor):
    def told():
        findings = ask("doctor", status=None)["findings"]
        return [one for one in findings if one["code"] == "constraint-repeated"]

    assert told() == []
    for number in (1, 2):
        waqtor.rows(f"alter table users add constraint users_email_key{number} unique (email)")
    (found,) = told()
    assert "users_email_key1, users_email_key2" in found["message"]
    assert ask("migrate", "baseline")["items"]
    extra = ask("migrate", "drift")["findings"]
    assert [one["code"] for one in extra] == ["index-extra", "index-extra"]
    waqtor.rows(found["hint"])
    assert told() == ask("migrate", "drift")["findings"] == []
    assert waqtor.rows("select conname from pg_constraint where conrelid = 'users'::regclass and contype = 'u'") == [
        ("users_email_key",)
    ]  # fmt: skip


# Handing over ------------------------------------------------------------------------------------------------------


def test_what_a_deleted_user_owns_is_handed_over_and_keys_and_tokens_are_not(ask, waqtor):
    tables = ["whatsapp_sessions", "messages", "campaigns", "recipients", "groups"]
    waqtor.rows("update groups set name = 'Of her own' where user_id = %s", ANA)
    owned = {table: waqtor.one(f"select count(*) from {table} where user_id = %s", ANA) for table in tables}
    before = {table: waqtor.one(f"select count(*) from {table}") for table in tables}
    phone = "phone" if waqtor.deployed else "phone_number"
    both = waqtor.one(
        f"select count(*) from recipients a join recipients b using ({phone}) where a.user_id = %s and b.user_id = %s",
        ANA,
        BOSS,
    )
    words = ["users", "delete", "ana@waqtor.example", "--transfer-to", "boss@waqtor.example"]
    for refused in (ask(*words, "--dry-run", status=6), ask(*words, "--yes", status=6)):
        assert refused["code"] == "duplicate-rows"
        assert f"{both} row" in refused["message"]
        assert f"recipients ({phone})" in refused["message"]
    assert waqtor.one("select count(*) from recipients where user_id = %s", ANA) == owned["recipients"]
    words.append("--delete-duplicates")
    plan = ask(*words, "--dry-run")["plan"]
    assert f"recipients, which boss@waqtor.example has too ({phone})" in " ".join(plan["steps"])
    done = ask(*words, "--yes")
    assert done["duplicates"]["recipients"] == both
    assert done["transferred"]["messages"] == owned["messages"] > 0
    assert done["transferred"]["recipients"] == owned["recipients"] - both
    assert both, "what both have is there once"
    before["recipients"] -= both
    for table in tables:
        assert waqtor.one(f"select count(*) from {table}") == before[table], table
        assert waqtor.one(f"select count(*) from {table} where user_id = %s", ANA) == 0
    if waqtor.deployed:
        assert waqtor.one("select count(*) from refresh_tokens where user_id = %s", ANA) == 0
        assert waqtor.one("select count(*) from api_keys where user_id in (%s, %s)", ANA, BOSS) < 3
    assert plan["rows"] == done["rows"]
