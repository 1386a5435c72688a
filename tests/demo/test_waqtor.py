"""The sample of WaQtor: in an empty database on a server, the same for the same seed, and all of it sound."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime

import pytest

from dbctl import demo
from dbctl.errors import (
    DatabaseNotEmptyError,
    FileExistsAlreadyError,
    MigrationShapeOtherError,
    NotSupportedError,
    UsageError,
)
from tests import servers
from tests.databases import PostgreSQL

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNTS = {"users": 12, "messages": 150}
TABLES = ("users", "whatsapp_sessions", "messages", "campaigns", "recipients", "campaign_recipients", "groups",
          "recipient_groups", "feature_subscriptions", "access_codes", "feature_access_logs", "api_keys", "refresh_tokens")  # fmt: skip


def build(folder, url, **further):
    given = {"counts": COUNTS, "at": AT, "urls": {"main": url}} | further
    return demo.build(folder, profile="waqtor", **given)


#: What a row is in the columns of each shape, as far as both have it.
ALIKE = {
    "users": "id, email, password_hash, name, cast(role as text), is_active, {last_login_at}, {created_at}, {updated_at}",
    "messages": "id, user_id, session_id, message_id, cast(status as text), {created_at}",
    "campaigns": "id, user_id, session_id, name, cast(status as text), sent_count, failed_count, {started_at}, {completed_at}",
    "recipients": "id, user_id, name, email, custom_fields, {created_at}",
    "groups": "id, user_id, name, description",
    "recipient_groups": "id, recipient_id, group_id",
    "whatsapp_sessions": "id, user_id, phone_number, {updated_at}",
}
OTHERWISE = {
    "messages": ("to_phone, body, ack_code", "phone_number, message_text, ack_status"),
    "recipients": ("phone", "phone_number"),
}


def told(url, tables=TABLES):
    with closing(servers.connection(url)) as connection:
        return {name: sorted(map(str, connection.execute(f"select * from {name}"))) for name in tables}


def told_alike(url, *, document):
    """Return what both shapes hold of the same rows, times in UTC."""
    found = {}
    with closing(servers.connection(url)) as connection:
        for table, columns in ALIKE.items():
            asked = re.sub(r"{(\w+)}", r"\1" if document else r"\1 at time zone 'UTC'", columns)
            asked += "".join(f", {one}" for one in OTHERWISE.get(table, ())[document:][:1])
            found[table] = sorted(map(str, connection.execute(f"select {asked} from {table}")))
    return found


def test_every_table_has_rows_and_the_same_seed_gives_the_same(tmp_path):
    with servers.postgresql_schema() as one, servers.postgresql_schema() as two:
        made = build(tmp_path / "one", one)
        assert (made.rows["users"], made.rows["messages"]) == (12, 150)
        build(tmp_path / "two", two)
        rows = told(one)
        assert all(rows.values())
        assert told(two) == rows
    assert (tmp_path / "one/runtime/server/db/waqtor.db").is_file()


def test_the_document_s_shape_gets_the_same_rows(tmp_path):
    with servers.postgresql_schema() as deployed, servers.postgresql_schema() as document:
        made = build(tmp_path / "one", deployed).rows
        assert build(tmp_path / "two", document, shape="document").rows == {
            what: count for what, count in made.items() if what != "tokens"
        }
        rows = told_alike(document, document=True)
        assert all(rows.values())
        assert rows == told_alike(deployed, document=False)
        assert set(PostgreSQL(document).tables()) == {*ALIKE, "schema_migrations"}


def test_what_migrations_have_begun_in_a_shape_is_filled_in_that_shape(tmp_path, answer):
    with servers.postgresql_schema() as url, servers.postgresql_schema() as other:
        app = ["--profile", "waqtor", "--url", f"main={servers.text(url)}"]
        answer(*app, "migrate", "up", "--to", "2", "--variant", "document")
        with pytest.raises(MigrationShapeOtherError):
            build(tmp_path / "no", url, shape="deployed")
        assert PostgreSQL(url).rows("select count(*) from users") == [(0,)]
        assert not (tmp_path / "no").exists()
        build(tmp_path / "one", url)
        build(tmp_path / "two", other, shape="document")
        assert told(url, ALIKE) == told(other, ALIKE)


@pytest.mark.parametrize("shape", ["deployed", "document"])
def test_its_people_sign_in_and_nothing_of_it_is_to_be_complained_of(tmp_path, answer, monkeypatch, shape):
    monkeypatch.chdir(tmp_path)
    with servers.postgresql_schema() as url:
        words = ["waqtor", ".", "--url", f"main={servers.text(url)}", "--variant", shape]
        answer("demo", *words, "--users", "8", "--messages", "40")
        (tmp_path / "password").write_text("sample-admin")
        found = answer("users", "check-password", "admin@waqtor.example", "--password-file", "password")
        assert found["data"]["matches"]
        assert answer("integrity", "check")["data"]["findings"] == []
        assert answer("integrity", "cross-check")["data"]["findings"] == []
        assert answer("apps", "check")["data"]["findings"] == []
        assert answer("migrate", "status", "--check")["data"]["total"] == 4
        assert answer("migrate", "verify")["data"]["findings"] == []
        assert answer("migrate", "drift", "--db", "main")["data"]["findings"] == []
        summary = {
            (one["figure"], one["value"]): one["number"]
            for one in answer("stats", "run", "summary")["data"]["items"]
        }
        assert (summary["users", "total"], summary["messages", "total"]) == (8, 40)
        assert summary["sessions", "active"] > summary["sessions", "ready"] > 0
        assert summary["recipients", "total"] > summary["recipients", "active"] > 0
        codes = {one["code"] for one in answer("doctor")["data"]["findings"]}
        assert not codes & {
            "known-login",
            "known-secret",
            "flaw",
            "no-admin",
            "migrations-pending",
            "migrations-unsound",
            "ledger-missing",
        }


def test_a_database_that_holds_anything_is_refused_and_one_that_was_cut_off_is_filled(tmp_path):
    def interrupt(_more):
        raise KeyboardInterrupt

    with servers.postgresql_schema() as url:
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "a", url, progress=interrupt)
        assert not (tmp_path / "a").exists()
        build(tmp_path / "a", url)
        with pytest.raises(DatabaseNotEmptyError, match="access_codes"):
            build(tmp_path / "b", url)
        with pytest.raises(FileExistsAlreadyError):
            build(tmp_path / "a", url)
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
        connection.execute("create table mine (id int)")
        with pytest.raises(DatabaseNotEmptyError, match="mine"):
            build(tmp_path / "c", url)


def test_where_it_goes_must_be_said_and_what_it_has_not_cannot_be_counted(tmp_path):
    with pytest.raises(UsageError, match="--url main=URL"):
        build(tmp_path, servers.postgresql(), urls={})
    with pytest.raises(NotSupportedError, match="--games"):
        build(tmp_path, servers.postgresql(), counts={"games": 1})


def test_where_its_configuration_finds_no_room_nothing_is_filled(tmp_path, answer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with servers.postgresql_schema() as url:
        words = ["waqtor", ".", "--url", f"main={servers.text(url)}"]
        answer("init", *words)
        for more in ([], ["--dry-run"]):
            assert answer("demo", *words, *more, status=6)["error"]["code"] == "already-exists"
        assert PostgreSQL(url).tables() == []
    assert [one.name for one in tmp_path.iterdir()] == ["dbctl.toml"]
