"""A search of a read-only database answers the same through its index in a file of its own, and says when it goes without."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbctl.config import Selection
from dbctl.errors import FileFailedError, NotSupportedError, UsageError
from dbctl.model import Window
from dbctl.services.app import app as apps
from dbctl.services.doctor import examine
from dbctl.services.schedule import crontab
from dbctl.services.search import external_index, search
from dbctl.services.search import index as search_index
from dbctl.services.search.search import Asked
from tests.shapes.flashpoint_web import launcher_flashpoint_db

#: An app that is not among those which dbctl ships.
LIBRARY = """
schema = "dbctl.profile/1"
name = "library"
title = "Library"
time = "iso-ms"
boolean = "bool-01"

[databases.shelves]
engines = ["sqlite"]
needs = ["books"]
mode = "read-only"
owner = "the librarian"

[[search]]
name = "books"
database = "shelves"
table = "books"
id = "nr"
words = ["name", "writer?"]
show = ["nr", "name"]

[[search.key]]
names = ["lost"]
kind = "boolean"
hidden = true
columns = ["is_lost"]

[[search.sort]]
name = "name"
columns = ["name"]

[[search]]
name = "writers"
database = "shelves"
table = "books"
id = "nr"
words = ["writer"]
show = ["writer"]

[[search.sort]]
name = "writer"
columns = ["writer"]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "Data").mkdir()
    launcher_flashpoint_db(tmp_path / "Data/flashpoint.sqlite")
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, more: str = "") -> None:
    (folder / "dbctl.toml").write_text(
        '[apps.games]\nprofile = "flashpoint-web"\n[apps.games.databases]\n'
        f'flashpoint = "Data/flashpoint.sqlite"\n{more}'
    )


@contextmanager
def opened(place):
    with apps.opened(Selection(config=str(place / "dbctl.toml")), timeout=1) as app:
        yield app


def build(place, **more):
    with opened(place) as app:
        return search_index.change_of(app, "", "build", **more).apply()


def standing(place):
    with opened(place) as app:
        (item,) = search_index.standings(app).items
        return item


def files(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def answers(place, *words, query="", filters=(), sort="", limit=20, offset=0, shown=()):
    with opened(place) as app:
        asked = Asked(words=words, query=query, filters=filters, shown=shown)
        found = search.find(app, "games", asked, Window(limit=limit, offset=offset, sort=sort))
        return found.items, found.total, found.remark


QUESTIONS = [
    {"query": "hero"},
    {"query": "HERO part"},
    {"query": "ga he"},
    {"query": "hero -part"},
    {"query": "-hero"},
    {"query": "#Puzzle hero"},
    {"query": '"part 2"'},
    {"query": "hero", "sort": "-dateAdded"},
    {"query": "hero", "sort": "title"},
    {"query": "hero", "sort": "-title"},
    {"query": "hero", "limit": 7, "offset": 5},
    {"query": "hero", "offset": 5_000},
    {"query": "hero", "shown": ["all"]},
    {"query": "hero", "shown": ["broken"]},
    {"query": "hero", "filters": ["platform=Flash", "-status:partial"]},
    {"query": "under_score"},
    {"query": "nothing like this"},
    {},
    {"offset": 100},
    {"filters": ["tag=Puzzle"]},
]


def test_the_answers_are_the_same_and_say_when_every_row_was_read(place):
    before = [answers(place, **asked) for asked in QUESTIONS]
    build(place)
    assert [answers(place, **asked)[:2] for asked in QUESTIONS] == [one[:2] for one in before]
    assert {answers(place, **asked)[2] for asked in QUESTIONS} == {""}
    assert any(one[0] for one in before)
    for asked, (_, _, remark) in zip(QUESTIONS, before, strict=True):
        positive = any(len(word) > 2 for word in asked.get("query", "").split() if word[0] not in "-#")
        assert ("dbctl search index build games makes it" in remark) == positive


def test_the_same_of_counts_and_of_how_it_is_answered(place):
    asked = Asked(query="hero")
    with opened(place) as app:
        by_like = search.count(app, "games", asked)
        assert "is missing" in by_like.remark
    build(place)
    with opened(place) as app:
        counted = search.count(app, "games", asked)
        assert (counted.total, counted.remark) == (by_like.total, "")
        assert counted.total > 0
        plan = search.explain(app, "games", asked, Window(limit=5))
        assert "VIRTUAL TABLE" in plan.plan[0].step
        assert plan.full_scans == []


def test_it_is_made_once_and_anew_after_the_database_was_changed(place):
    made = build(place)
    assert made.changed
    assert made.index == str(place / "Data/flashpoint.sqlite.dbctl-search-games")
    assert not build(place).changed
    assert standing(place).state == "sound"
    with closing(sqlite3.connect(place / "Data/flashpoint.sqlite")) as launcher:
        launcher.execute("update game set title = 'Zebra Quest' where rowid = 1")
        launcher.commit()
        launcher.execute("pragma wal_checkpoint(truncate)")
    found = standing(place)
    assert (found.state, found.reason) == ("stale", "flashpoint.sqlite was changed since it was made")
    items, total, remark = answers(place, "zebra quest")
    assert ([item["title"] for item in items], total) == (["Zebra Quest"], 1)
    assert "was changed since it was made" in remark
    assert build(place).changed
    assert answers(place, "zebra quest")[1:] == (1, "")


def test_it_is_made_in_the_users_folder_where_the_databases_own_takes_no_files(place, monkeypatch):
    really = os.access
    data = str(place / "Data")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != data and really(path, mode))
    made = build(place)
    assert Path(made.index).parent == place / "cache/dbctl/search"
    assert answers(place, "hero")[2] == ""
    assert standing(place).path == made.index
    assert (place / "cache/dbctl/search").stat().st_mode & 0o777 == 0o700


def test_it_is_made_in_the_users_folder_where_that_is_asked_for(place):
    build(place)
    made = build(place, cache=True)
    assert Path(made.index).parent == place / "cache/dbctl/search"
    (place / "Data/flashpoint.sqlite.dbctl-search-games").unlink()
    assert answers(place, "hero")[2] == ""
    with opened(place) as app:
        assert search_index.change_of(app, "", "drop").apply().changed
    assert files(place) == ["Data/flashpoint.sqlite", "dbctl.toml"]


def test_a_user_without_a_home_has_it_beside_the_database_or_not_at_all(place, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "nowhere")
    assert answers(place, "hero")[1] > 0
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        build(place, cache=True)
    assert Path(build(place).index).parent == place / "Data"


def test_it_is_made_where_the_configuration_says(place):
    configure(place, '[apps.games.search]\nfolder = "indexes"\n')
    made = build(place)
    assert Path(made.index).parent == place / "indexes"
    assert answers(place, "hero")[2] == ""
    with opened(place) as app, pytest.raises(UsageError, match="--cache"):
        search_index.change_of(app, "", "build", cache=True)
    (job,) = [
        one for one in crontab.jobs([Selection(config=str(place / "dbctl.toml"))]) if one.name == "search"
    ]
    assert "search index build games" in job.command


def test_no_job_makes_it_unless_the_configuration_names_a_folder(place):
    assert "search" not in {one.name for one in crontab.jobs([Selection(config=str(place / "dbctl.toml"))])}


def test_a_plan_writes_nothing_and_a_drop_leaves_nothing(place):
    before = files(place)
    with opened(place) as app:
        plan = search_index.change_of(app, "games", "build").plan()
        assert len(plan.steps) == 2
        assert "1200 rows" in plan.steps[1]
    assert files(place) == before
    build(place)
    with opened(place) as app:
        drop = search_index.change_of(app, "games", "drop")
        assert [str(place / "Data/flashpoint.sqlite.dbctl-search-games")] == [
            step.removeprefix("remove ") for step in drop.plan().steps
        ]
        assert drop.apply().changed
        assert not search_index.change_of(app, "games", "drop").apply().changed
    assert files(place) == before


def test_a_check_tells_what_is_wrong_with_it(place, monkeypatch):
    monkeypatch.setattr(external_index, "SAMPLE", 50)

    def codes(**more):
        with opened(place) as app:
            return [(one.severity, one.code) for one in search_index.check(app, **more).findings]

    assert codes() == [("info", "search-index-missing")]
    index = Path(build(place).index)
    assert codes() == codes(whole=True) == []
    keep = index.stat()
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("update places set k0 = 1 - k0 where place = 1")
        connection.commit()
    os.utime(index, ns=(keep.st_atime_ns, keep.st_mtime_ns))
    assert codes() == [("error", "search-index-wrong")]
    with opened(place) as app:
        assert "stand in it otherwise" in search_index.change_of(app, "", "repair").plan().steps[0]
        assert search_index.change_of(app, "", "repair").apply().changed
        assert not search_index.change_of(app, "", "repair").apply().changed
    assert codes() == []
    index.write_bytes(index.read_bytes()[:5_000])
    assert codes() == [("error", "search-index-broken")]
    assert answers(place, "hero")[1] > 0
    assert "is of no use" in answers(place, "hero")[2]


def test_the_doctor_tells_of_one_that_is_not_used_any_more_but_asks_for_none(place):
    def told():
        found = examine.examine([Selection(config=str(place / "dbctl.toml"))], timeout=1).findings.findings
        return [one for one in found if one.code.startswith("search-index")]

    assert told() == []
    build(place)
    assert told() == []
    os.utime(place / "Data/flashpoint.sqlite")
    (finding,) = told()
    assert (finding.severity, finding.code) == ("warning", "search-index-stale")
    assert "search index build games" in finding.hint


def test_an_index_that_lies_is_left_alone_and_said_so(place):
    index = Path(build(place).index)
    by_index = answers(place, "hero")
    keep = index.stat()
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("update places set number = 1201 - number")
        connection.commit()
    os.utime(index, ns=(keep.st_atime_ns, keep.st_mtime_ns))
    items, total, remark = answers(place, "hero")
    assert (items, total) == by_index[:2]
    assert "do not hold the words" in remark


def test_an_app_that_nobody_knows_has_one_by_its_profile_alone(tmp_path):
    profile = tmp_path / "library.toml"
    profile.write_text(LIBRARY)
    path = tmp_path / "shelves.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table books (nr integer primary key, name text, writer text, is_lost int)")
        connection.executemany(
            "insert into books (name, writer, is_lost) values (?, ?, ?)",
            [("Moby Dick", "Melville", 0), ("Typee", "Melville", 1), ("Emma", "Austen", None)],
        )
        connection.commit()
    with apps.opened(Selection(profile=str(profile), urls=[f"shelves={path}"]), timeout=1) as app:
        with pytest.raises(UsageError, match="say which search: books or writers"):
            search_index.change_of(app, "", "build")
        for name in ("books", "writers"):
            search_index.change_of(app, name, "build").apply()
        found = search.find(app, "books", Asked(words=["melVILLE"]), Window())
        assert ([item["name"] for item in found.items], found.total, found.remark) == (["Moby Dick"], 1, "")
        assert search.find(app, "writers", Asked(words=["*ville*"]), Window()).total == 2
        assert {one.state for one in search_index.standings(app).items} == {"sound"}
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "library.toml",
        "shelves.db",
        "shelves.db.dbctl-search-books",
        "shelves.db.dbctl-search-writers",
    ]


def test_a_database_that_may_be_written_has_none(tmp_path):
    profile = tmp_path / "library.toml"
    profile.write_text(LIBRARY.replace('mode = "read-only"', 'mode = "read-write"').replace("owner =", "#"))
    path = tmp_path / "shelves.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table books (nr integer primary key, name text, writer text, is_lost int)")
    with apps.opened(Selection(profile=str(profile), urls=[f"shelves={path}"]), timeout=1) as app:
        assert search.find(app, "books", Asked(words=["melville"]), Window()).remark == ""
        with pytest.raises(NotSupportedError):
            search_index.change_of(app, "books", "build")


def test_what_stands_in_its_way_is_an_error_and_stays(place):
    (place / "Data/flashpoint.sqlite.dbctl-search-games").mkdir()
    with pytest.raises(FileFailedError, match="moved away"):
        build(place)
    assert files(place) == ["Data/flashpoint.sqlite", "dbctl.toml"]
    assert (place / "Data/flashpoint.sqlite.dbctl-search-games").is_dir()
    assert answers(place, "hero")[1] > 0


def test_the_facts_of_a_status_are_typed(place):
    build(place)
    found = standing(place)
    assert found.bytes == Path(found.path or "").stat().st_size
    assert found.made_at is not None
    assert json.loads(json.dumps(found.brief(), default=str))["state"] == "sound"
