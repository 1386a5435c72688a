"""The indexes that the document of an app requires: each missing one is reported, with a statement that creates it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from dbctl.profiles.loader import load
from tests import servers
from tests.databases import empty_database
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


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_statement_of_an_index_quotes_names(engine, tmp_path, monkeypatch, answer):
    mark = "`" if engine == "mysql" else '"'
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\n'
        'engines = ["sqlite", "postgresql", "mysql"]\nneeds = []\nindexed = ["Order.user id", "Order.group"]\n'
    )
    with empty_database(engine, tmp_path / "shop.db") as db:
        db.run(f"create table {mark}Order{mark} ({mark}user id{mark} integer, {mark}group{mark} integer)")
        findings = list_unindexed(answer, "shop.toml", {"main": db.url})
        assert len(findings) == 2
        db.run(*(finding["hint"].rstrip(";") for finding in findings))
        assert list_unindexed(answer, "shop.toml", {"main": db.url}) == []


def test_statement_of_an_index_names_the_schema(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\n'
        'engines = ["postgresql"]\nneeds = []\nindexed = ["carts.owner"]\n'
    )
    with (
        servers.postgresql_database(encoding="UTF8") as url,
        psycopg.connect(str(url), autocommit=True) as connection,
    ):
        connection.execute('create table carts (owner integer); create schema "my shop"')
        connection.execute('create table "my shop".carts (owner integer)')
        place = {"main": f"{url}?schema=my%20shop"}
        (finding,) = list_unindexed(answer, "shop.toml", place)
        connection.execute(finding["hint"])
        assert list_unindexed(answer, "shop.toml", place) == []
