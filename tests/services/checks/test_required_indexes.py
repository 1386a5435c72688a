"""The indexes that the document of an app requires: each missing one is reported, with a statement that creates it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from dbctl.profiles.loader import load
from tests import servers
from tests.shapes import chat_lancedb, waqtor, yaai


def list_unindexed(answer, profile, databases):
    urls = [word for name, place in databases.items() for word in ("--url", f"{name}={place}")]
    findings = answer("--profile", profile, *urls, "doctor", status=None)["data"]["findings"]
    return [finding for finding in findings if finding["code"] == "column-unindexed"]


def create_chat(folder):
    return {"chat": chat_lancedb.document(folder / "chat.db")}


@pytest.mark.parametrize(("profile", "create"), [("yaai", yaai.document), ("chat-lancedb", create_chat)])
def test_missing_index_is_reported_until_it_is_created(profile, create, tmp_path, answer):
    databases = create(tmp_path)
    assert list_unindexed(answer, profile, databases) == []
    required = load(profile).databases["chat"].indexed
    assert required
    with closing(sqlite3.connect(databases["chat"])) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_schema where type = 'index' and sql is not null")]  # fmt: skip
        for name in names:
            connection.execute(f'drop index "{name}"')
        connection.commit()
        findings = list_unindexed(answer, profile, databases)
        assert [path for path in required if any(f" {path}," in finding["message"] for finding in findings)] == list(required)  # fmt: skip
        for finding in findings:
            connection.execute(finding["hint"])
        connection.commit()
    assert list_unindexed(answer, profile, databases) == []


@pytest.mark.parametrize("create", [waqtor.deployed, waqtor.document])
def test_index_of_a_server_is_reported_until_it_is_created(create, answer):
    with (
        servers.postgresql_database(encoding="UTF8") as url,
        psycopg.connect(str(url), autocommit=True) as connection,
    ):
        create(connection)
        assert list_unindexed(answer, "waqtor", {"main": url}) == []
        (name,) = connection.execute("select indexname from pg_indexes where tablename = 'messages' and indexdef like '%(session_id)'").fetchone()  # fmt: skip
        connection.execute(f"drop index {name}")
        (finding,) = list_unindexed(answer, "waqtor", {"main": url})
        assert "messages.session_id" in finding["message"]
        connection.execute(finding["hint"])
        assert list_unindexed(answer, "waqtor", {"main": url}) == []
