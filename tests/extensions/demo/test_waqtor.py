"""The sample of WaQtor: deterministic and consistent rows in an empty database on a server."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime

import pytest

from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.errors.databases import DatabaseNotEmptyError
from dbctl.errors.migrations import MigrationVariantMismatchError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.demo.builder import build_sample
from tests import servers
from tests.databases import PostgreSQL
from tests.observed_progress import observe_progress

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNTS = {"users": 12, "messages": 150}
TABLES = ("users", "whatsapp_sessions", "messages", "campaigns", "recipients", "campaign_recipients", "groups",
          "recipient_groups", "feature_subscriptions", "access_codes", "feature_access_logs", "api_keys", "refresh_tokens")  # fmt: skip


def build(folder, url, **overrides):
    options = {"counts": COUNTS, "at": AT, "urls": {"main": url}} | overrides
    return build_sample(folder, profile="waqtor", **options)


#: Columns that both variants have, with the same names.
COMMON_COLUMNS = {
    "users": "id, email, password_hash, name, cast(role as text), is_active, {last_login_at}, {created_at}, {updated_at}",
    "messages": "id, user_id, session_id, message_id, cast(status as text), {created_at}",
    "campaigns": "id, user_id, session_id, name, cast(status as text), sent_count, failed_count, {started_at}, {completed_at}",
    "recipients": "id, user_id, name, email, custom_fields, {created_at}",
    "groups": "id, user_id, name, description",
    "recipient_groups": "id, recipient_id, group_id",
    "whatsapp_sessions": "id, user_id, phone_number, {updated_at}",
}
RENAMED_COLUMNS = {
    "messages": ("to_phone, body, ack_code", "phone_number, message_text, ack_status"),
    "recipients": ("phone", "phone_number"),
}


def read_rows(url, tables=TABLES):
    with closing(servers.connection(url)) as connection:
        return {name: sorted(map(str, connection.execute(f"select * from {name}"))) for name in tables}


def read_comparable_rows(url, *, document):
    """Return the values that both variants have in common, with times in UTC."""
    rows_by_table = {}
    with closing(servers.connection(url)) as connection:
        for table, columns in COMMON_COLUMNS.items():
            expressions = re.sub(r"{(\w+)}", r"\1" if document else r"\1 at time zone 'UTC'", columns)
            expressions += "".join(f", {column}" for column in RENAMED_COLUMNS.get(table, ())[document:][:1])
            rows_by_table[table] = sorted(map(str, connection.execute(f"select {expressions} from {table}")))
    return rows_by_table


@pytest.mark.slow
def test_every_table_has_rows_that_depend_only_on_the_seed(tmp_path):
    with servers.postgresql_schema() as first, servers.postgresql_schema() as second:
        result = build(tmp_path / "one", first)
        assert (result.rows["users"], result.rows["messages"]) == (12, 150)
        build(tmp_path / "two", second)
        rows = read_rows(first)
        assert all(rows.values())
        assert read_rows(second) == rows
    assert (tmp_path / "one/runtime/server/db/waqtor.db").is_file()


@pytest.mark.slow
def test_both_variants_have_the_same_rows(tmp_path):
    with servers.postgresql_schema() as deployed, servers.postgresql_schema() as document:
        row_counts = build(tmp_path / "one", deployed).rows
        assert build(tmp_path / "two", document, variant="document").rows == {
            kind: count for kind, count in row_counts.items() if kind != "tokens"
        }
        rows = read_comparable_rows(document, document=True)
        assert all(rows.values())
        assert rows == read_comparable_rows(deployed, document=False)
        assert set(PostgreSQL(document).tables()) == {*COMMON_COLUMNS, "schema_migrations"}


@pytest.mark.slow
def test_partly_migrated_database_is_filled_in_its_variant(tmp_path, answer):
    with servers.postgresql_schema() as url, servers.postgresql_schema() as other:
        app = ["--profile", "waqtor", "--url", f"main={servers.text(url)}"]
        answer(*app, "migrate", "up", "--to", "2", "--variant", "document")
        with pytest.raises(MigrationVariantMismatchError):
            build(tmp_path / "no", url, variant="deployed")
        assert PostgreSQL(url).rows("select count(*) from users") == [(0,)]
        assert not (tmp_path / "no").exists()
        build(tmp_path / "one", url)
        build(tmp_path / "two", other, variant="document")
        assert read_rows(url, COMMON_COLUMNS) == read_rows(other, COMMON_COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["deployed", "document"])
def test_sample_of_each_variant_passes_all_checks(tmp_path, answer, monkeypatch, variant):
    monkeypatch.chdir(tmp_path)
    with servers.postgresql_schema() as url:
        words = ["waqtor", ".", "--url", f"main={servers.text(url)}", "--variant", variant]
        answer("demo", *words, "--users", "8", "--messages", "40")
        (tmp_path / "password").write_text("sample-admin")
        check = answer("users", "check-password", "admin@waqtor.example", "--password-file", "password")
        assert check["data"]["matches"]
        assert answer("integrity", "check")["data"]["findings"] == []
        assert answer("integrity", "cross-check")["data"]["findings"] == []
        assert answer("apps", "check")["data"]["findings"] == []
        assert answer("migrate", "status", "--check")["data"]["total"] == 4
        assert answer("migrate", "verify")["data"]["findings"] == []
        assert answer("migrate", "drift", "--db", "main")["data"]["findings"] == []
        summary = {
            (row["figure"], row["value"]): row["number"]
            for row in answer("stats", "run", "summary")["data"]["items"]
        }
        assert (summary["users", "total"], summary["messages", "total"]) == (8, 40)
        assert summary["sessions", "active"] > summary["sessions", "ready"] > 0
        assert summary["recipients", "total"] > summary["recipients", "active"] > 0
        codes = {finding["code"] for finding in answer("doctor")["data"]["findings"]}
        assert not codes & {
            "known-login",
            "known-secret",
            "invariant-violated",
            "no-admin",
            "migrations-pending",
            "migrations-inconsistent",
            "ledger-missing",
        }


@pytest.mark.slow
def test_database_with_tables_is_refused_but_interrupted_build_is_repeated(tmp_path):
    def interrupt(_more):
        raise KeyboardInterrupt

    with servers.postgresql_schema() as url:
        with pytest.raises(KeyboardInterrupt), observe_progress(interrupt):
            build(tmp_path / "a", url)
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


def test_address_is_required_and_unknown_counts_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--url main=URL"):
        build(tmp_path, servers.postgresql(), urls={})
    with pytest.raises(NotSupportedError, match="--games"):
        build(tmp_path, servers.postgresql(), counts={"games": 1})


def test_existing_configuration_is_refused_before_the_database_is_filled(tmp_path, answer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with servers.postgresql_schema() as url:
        words = ["waqtor", ".", "--url", f"main={servers.text(url)}"]
        answer("init", *words)
        for more in ([], ["--dry-run"]):
            assert answer("demo", *words, *more, status=6)["error"]["code"] == "already-exists"
        assert PostgreSQL(url).tables() == []
    assert [path.name for path in tmp_path.iterdir()] == ["dbctl.toml"]
