"""A database without a profile: generic commands work, others report the missing feature."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests import servers


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def address(request, tmp_path, monkeypatch):
    """Create a table of three rows in a database without configuration; yield its URL or path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    statements = "create table things (id integer primary key)", "insert into things values (1), (2), (3)"
    if request.param == "sqlite":
        with closing(sqlite3.connect("things.db", isolation_level=None)) as db:
            for sql in statements:
                db.execute(sql)
        yield "things.db"
        return
    if request.param == "mysql":
        with (
            servers.mysql_database() as url,
            closing(servers.mysql_connection(url)) as db,
            db.cursor() as cursor,
        ):
            for sql in statements:
                cursor.execute(sql)
            yield servers.text(url)
        return
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as db:
        for sql in statements:
            db.execute(sql)
        yield servers.text(url)


def test_generic_command_requires_only_url(address, answer):
    response = answer("--url", address, "stats", "tables")
    assert [(row["table"], row["rows"]) for row in response["data"]["items"]] == [("things", 3)]
    assert answer("--url", f"main={address}", "integrity", "check")["data"]["findings"] == []


def test_app_command_without_profile_reports_missing_feature(address, answer):
    response = answer("--url", address, "users", "list", status=2)
    assert response["error"]["code"] == "feature-missing"


def test_database_name_other_than_main_requires_profile(address, answer):
    response = answer("--url", f"pantry={address}", "stats", "tables", status=5)
    assert response["error"]["code"] == "database-unknown"


@pytest.mark.parametrize(
    "words",
    ["users list", "settings list", "sessions list", "search messages x", "stats reports", "stats activity"],
)
def test_hint_of_missing_feature_lists_profiles_with_it(tmp_path, monkeypatch, answer, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things.db").touch()
    error = answer("--url", "things.db", *words.split(), status=2)["error"]
    assert error["code"] == "feature-missing"
    assert "none" not in error["hint"]
    assert "flashpoint-web" in error["hint"]


@pytest.mark.parametrize(
    ("database", "folder", "code"), [("a.db", "nowhere", 5), ("nowhere/a.db", "own", 10)]
)
def test_hint_for_missing_folder_promises_no_creation(tmp_path, monkeypatch, answer, database, folder, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/001_a.sql").write_text("create table a (x integer);")
    error = answer("--url", database, "migrate", "up", "--migrations", folder, status=code)["error"]
    assert "migrate up" not in error["hint"]
    assert not (tmp_path / "nowhere").exists()


def test_table_of_generated_columns_cannot_be_exported(tmp_path, answer):
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as db:
        db.execute("create table made (a integer generated always as (1) stored)")
        for secrets in ([], ["--secrets"]):
            words = [
                "--url",
                servers.text(url),
                "data",
                "export",
                "made",
                str(tmp_path / "made.csv"),
                *secrets,
            ]
            error = answer(*words, status=2)["error"]
            assert "generated" in error["message"]
            assert "--secrets" not in error["message"] + error["hint"]


def test_hint_of_missing_subfeature_lists_profiles_with_it(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things.db").touch()
    error = answer("--url", "things.db", "integrity", "repair", "--yes", status=2)["error"]
    assert error["code"] == "feature-missing"
    assert "none" not in error["hint"]
