"""Rows of two databases are compared by keys of one type only: otherwise each row would seem to lack its original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.databases import empty_database

PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["people"]
[databases.vectors]
engines = ["sqlite"]
needs = ["vectors"]
[[link]]
name = "vectors of people"
database = "vectors"
table = "vectors"
column = "person"
to = "main"
targets = ["people.id"]
repeats = { nick = "login" }
placeholders = ["0"]
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize(("key", "status"), [("text", 2), ("integer", 0), ("", 2)])
def test_rows_with_keys_of_another_type_are_not_deleted_as_orphans(
    answer: Callable[..., Any], tmp_path: Path, engine: str, key: str, status: int
) -> None:
    (tmp_path / "club.toml").write_text(PROFILE)
    with (
        empty_database(engine, tmp_path / "club.db") as people,
        empty_database("sqlite", tmp_path / "vectors.db") as vectors,
    ):
        people.run(
            "create table people (id integer primary key, login varchar(9))",
            "insert into people values (1, 'ida'), (2, 'bo')",
        )
        vectors.run(
            f"create table vectors (id integer primary key, person {key}, nick text)",
            "insert into vectors values (1, 1, 'ida'), (2, 2, 'bo'), (3, 3, 'cy')",
        )
        if not key:
            vectors.run("update vectors set person = '1' where id = 1")
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.club]\nprofile = "club.toml"\n[apps.club.databases]\nmain = "{people.url}"\nvectors = "{vectors.url}"\n'
        )
        options = ("--config", str(tmp_path / "dbctl.toml"))
        answer("integrity", "cross-check", *options, status=status)
        answer("integrity", "repair", "--delete-orphans", "--yes", *options, status=status)
        left = [1, 2, 3] if status else [1, 2]
        assert [row[0] for row in vectors.rows("select id from vectors order by id")] == left


def test_originals_without_a_key_have_no_other_type(answer: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "club.toml").write_text(PROFILE.replace('"people.id"', '"people.login"'))
    with (
        empty_database("sqlite", tmp_path / "club.db") as people,
        empty_database("sqlite", tmp_path / "vectors.db") as vectors,
    ):
        people.run(
            "create table people (id integer primary key, login text)", "insert into people values (1, null)"
        )
        vectors.run(
            "create table vectors (id integer primary key, person text, nick text)",
            "insert into vectors values (1, 'ida', 'ida')",
        )
        options = ("--url", f"main={people.url}", "--url", f"vectors={vectors.url}")
        profile = ("--profile", str(tmp_path / "club.toml"))
        findings = answer("integrity", "cross-check", *profile, *options, status=None)["data"]["findings"]
        assert "usage" not in [finding["code"] for finding in findings]
        assert findings


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize(
    ("key", "own_key"), [("integer", "text"), ("varchar(9)", "integer"), ("integer", "")]
)
def test_reference_is_found_by_a_key_of_another_type(
    answer: Callable[..., Any], tmp_path: Path, engine: str, key: str, own_key: str
) -> None:
    (tmp_path / "club.toml").write_text(PROFILE.replace('repeats = { nick = "login" }\n', ""))
    with (
        empty_database(engine, tmp_path / "club.db") as people,
        empty_database("sqlite", tmp_path / "vectors.db") as vectors,
    ):
        people.run(
            f"create table people (id {key} primary key, login varchar(9))",
            "insert into people values (1, 'ida'), (2, 'bo')",
        )
        vectors.run(
            f"create table vectors (id integer primary key, person {own_key}, nick text)",
            "insert into vectors values (1, '1', 'ida'), (2, 2, 'bo'), (3, '3', 'cy')",
        )
        options = ("--url", f"main={people.url}", "--url", f"vectors={vectors.url}")
        profile = ("--profile", str(tmp_path / "club.toml"))
        (finding,) = answer("integrity", "cross-check", *profile, *options)["data"]["findings"]
        assert (
            finding["code"],
            finding["message"].endswith("1 of 3 values of vectors.person is not in main (1 row): 3"),
        ) == ("missing-reference", True)
