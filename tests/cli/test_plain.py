"""A database of which nothing is known but its address: what needs to know no app works, the rest says why not."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests import servers


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def address(request, tmp_path, monkeypatch):
    """An address with nothing but a table of three rows behind it, and no configuration anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = "create table things (id integer primary key)", "insert into things values (1), (2), (3)"
    if request.param == "sqlite":
        with closing(sqlite3.connect("things.db", isolation_level=None)) as db:
            for sql in made:
                db.execute(sql)
        yield "things.db"
        return
    if request.param == "mysql":
        with (
            servers.mysql_database() as url,
            closing(servers.mysql_connection(url)) as db,
            db.cursor() as cursor,
        ):
            for sql in made:
                cursor.execute(sql)
            yield servers.text(url)
        return
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as db:
        for sql in made:
            db.execute(sql)
        yield servers.text(url)


def test_what_needs_to_know_no_app_wants_an_address_alone(address, answer):
    told = answer("--url", address, "stats", "tables")
    assert [(row["table"], row["rows"]) for row in told["data"]["items"]] == [("things", 3)]
    assert answer("--url", f"main={address}", "integrity", "check")["data"]["findings"] == []


def test_what_needs_to_know_the_app_says_so(address, answer):
    told = answer("--url", address, "users", "list", status=2)
    assert told["error"]["code"] == "ability-missing"


def test_another_name_than_main_wants_a_profile(address, answer):
    told = answer("--url", f"pantry={address}", "stats", "tables", status=5)
    assert told["error"]["code"] == "database-unknown"


@pytest.mark.parametrize(
    "words",
    ["users list", "settings list", "sessions list", "search messages x", "stats reports", "stats activity"],
)
def test_the_hint_of_a_missing_ability_names_profiles_that_have_it(tmp_path, monkeypatch, answer, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things.db").touch()
    error = answer("--url", "things.db", *words.split(), status=2)["error"]
    assert error["code"] == "ability-missing"
    assert "none" not in error["hint"]
    assert "flashpoint-web" in error["hint"]


@pytest.mark.parametrize(
    ("database", "folder", "code"), [("a.db", "nowhere", 5), ("nowhere/a.db", "own", 10)]
)
def test_the_hint_for_a_missing_folder_promises_no_new_one(
    tmp_path, monkeypatch, answer, database, folder, code
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/001_a.sql").write_text("create table a (x integer);")
    error = answer("--url", database, "migrate", "up", "--migrations", folder, status=code)["error"]
    assert "migrate up" not in error["hint"]
    assert not (tmp_path / "nowhere").exists()


def test_a_table_with_only_generated_columns_has_nothing_to_export(tmp_path, answer):
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


def test_the_hint_of_a_missing_special_ability_names_profiles_that_have_it(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things.db").touch()
    error = answer("--url", "things.db", "integrity", "repair", "--yes", status=2)["error"]
    assert error["code"] == "ability-missing"
    assert "none" not in error["hint"]
