"""The sample of WaQtor: in an empty database on a server, the same for the same seed, and all of it sound."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest

from dbctl.errors import DatabaseNotEmptyError, FileExistsAlreadyError, NotSupportedError, UsageError
from dbctl.services import demo
from tests import kept, servers

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNTS = {"users": 12, "messages": 150}
TABLES = ("users", "whatsapp_sessions", "messages", "campaigns", "recipients", "campaign_recipients", "groups",
          "recipient_groups", "feature_subscriptions", "access_codes", "feature_access_logs", "api_keys", "refresh_tokens")  # fmt: skip


def build(folder, url, **further):
    given = {"counts": COUNTS, "at": AT, "urls": {"main": url}} | further
    return demo.build(folder, profile="waqtor", **given)


def told(url):
    with closing(servers.connection(url)) as connection:
        return {name: sorted(map(str, connection.execute(f"select * from {name}"))) for name in TABLES}


def test_every_table_has_rows_and_the_same_seed_gives_the_same(tmp_path):
    with servers.postgresql_schema() as one, servers.postgresql_schema() as two:
        made = build(tmp_path / "one", one)
        assert (made.rows["users"], made.rows["messages"]) == (12, 150)
        build(tmp_path / "two", two)
        rows = told(one)
        assert all(rows.values())
        assert told(two) == rows
    assert (tmp_path / "one/runtime/server/db/waqtor.db").is_file()


def test_its_people_sign_in_and_nothing_of_it_is_to_be_complained_of(tmp_path, answer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with servers.postgresql_schema() as url:
        answer(
            "demo", "waqtor", ".", "--url", f"main={servers.text(url)}", "--users", "8", "--messages", "40"
        )
        (tmp_path / "password").write_text("sample-admin")
        found = answer("users", "check-password", "admin@waqtor.example", "--password-file", "password")
        assert found["data"]["matches"]
        assert answer("integrity", "check")["data"]["findings"] == []
        assert answer("migrate", "drift", "--db", "main")["data"]["findings"] == []
        codes = {one["code"] for one in answer("doctor")["data"]["findings"]}
        assert not codes & {
            "known-login",
            "known-secret",
            "flaw",
            "no-admin",
            "migrations-pending",
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
        assert kept.PostgreSQL(url).tables() == []
    assert [one.name for one in tmp_path.iterdir()] == ["dbctl.toml"]
