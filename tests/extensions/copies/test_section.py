"""The section ``anonymise`` of a profile: contradictions in it, and names that the database lacks."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dbctl.profiles import loader
from dbctl.services.checks.profile import find_inconsistencies

PROFILE = """
schema = "dbctl.profile/1"
name = "notes"
title = "Notes"
[databases.main]
engines = ["sqlite"]
"""


@pytest.mark.parametrize(
    "entry",
    [
        '"email" = "email"',
        '".email" = "email"',
        '"notes.body" = {}',
        '"notes.body" = { kind = "json", by = "key", values = { a = "name" } }',
        '"notes.body" = { by = "key" }',
        '"notes.body" = { kind = "text", values = { a = "name" } }',
        '"notes.body" = { kind = "text", paths = { a = "name" } }',
        '"notes.body" = { kind = "json", paths = { a = "json" } }',
        '"notes.body" = { kind = "json", after = "@" }',
        '"notes.body" = { by = "key", values = { a = { after = "@" } } }',
        '"queue.body" = "text"',
        '"notes.body" = "omit"',
        '"notes.body" = { kind = "json", rest = "omit" }',
        '"notes.body" = { kind = "json", paths = { a = "omit" } }',
    ],
)
def test_contradiction_has_its_key(entry: str) -> None:
    section = (
        f'[anonymise.databases.main.tables]\n"queue?" = "empty"\n[anonymise.databases.main.columns]\n{entry}'
    )
    problems = list(find_inconsistencies(loader.parse(PROFILE + section)))
    path = entry.split('"')[1]
    assert [tuple(key) for key, _ in problems] == [("anonymise", "databases", "main", "columns", path)]


def test_section_of_an_unknown_database_is_an_error() -> None:
    section = '[anonymise.databases.other.tables]\nqueue = "empty"'
    keys = [tuple(key) for key, _ in find_inconsistencies(loader.parse(PROFILE + section))]
    assert keys == [("anonymise", "databases")]


def test_check_reports_names_that_the_database_lacks(tmp_path: Path, answer: Any) -> None:
    file, profile = tmp_path / "notes.db", tmp_path / "notes.toml"
    with sqlite3.connect(file) as connection:
        connection.execute("create table notes (id integer primary key, body text)")
    connection.close()
    profile.write_text(
        PROFILE
        + """
        [anonymise.databases.main.tables]
        queue = "empty"
        "jobs?" = "empty"
        "old_*" = "keep"
        [anonymise.databases.main.columns]
        "notes.body" = "text"
        "notes.title" = "text"
        "notes.mail?" = "email"
        "people.mail" = "email"
        "*.phone" = "phone"
        """
    )
    result = answer("--profile", str(profile), "--url", f"main={file}", "apps", "check", status=None)
    missing = [item["message"] for item in result["data"]["findings"] if item["code"] == "schema-mismatch"]
    assert len(missing) == 3
    assert all(any(name in text for text in missing) for name in ("queue", "notes.title", "people"))
