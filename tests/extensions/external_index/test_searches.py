"""Searches of read-only databases return the same rows with and without an external index."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.external_index import index as external
from dbctl.extensions.schedule.jobs import list_jobs
from dbctl.model import PageRequest
from dbctl.services.checks.run import examine
from dbctl.services.search import search
from dbctl.services.search.request import SearchRequest
from tests.shapes.flashpoint_web import launcher_flashpoint_db

#: A profile that is not built in.
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
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "Data").mkdir()
    launcher_flashpoint_db(tmp_path / "Data/flashpoint.sqlite")
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, extra: str = "") -> None:
    (folder / "dbctl.toml").write_text(
        '[apps.games]\nprofile = "flashpoint-web"\n[apps.games.databases]\n'
        f'flashpoint = "Data/flashpoint.sqlite"\n{extra}'
    )


@contextmanager
def open_app(folder):
    from dbctl.services.app.session import open_app as open_selected

    with open_selected(Selection(config=str(folder / "dbctl.toml")), timeout=1) as app:
        yield app


def build(folder, **options):
    from dbctl.services.search.indexes.selection import create_change

    with open_app(folder) as app:
        return create_change(app, "", "build", **options).apply()


def read_status(folder):
    from dbctl.services.search.indexes.selection import read_statuses

    with open_app(folder) as app:
        (item,) = read_statuses(app).items
        return item


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run_search(folder, *words, query="", filters=(), sort="", limit=20, offset=0, show_hidden=()):
    with open_app(folder) as app:
        request = SearchRequest(words=words, query=query, filters=filters, show_hidden=show_hidden)
        result = search.find(app, "games", request, PageRequest(limit=limit, offset=offset, sort=sort))
        return result.items, result.total, result.note


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
    {"query": "hero", "show_hidden": ["all"]},
    {"query": "hero", "show_hidden": ["broken"]},
    {"query": "hero", "filters": ["platform=Flash", "-status:partial"]},
    {"query": "under_score"},
    {"query": "nothing like this"},
    {},
    {"offset": 100},
    {"filters": ["tag=Puzzle"]},
]


@pytest.mark.slow
def test_results_are_equal_with_and_without_index(folder):
    answers_without_index = [run_search(folder, **request) for request in QUESTIONS]
    build(folder)
    assert [run_search(folder, **request)[:2] for request in QUESTIONS] == [
        answer[:2] for answer in answers_without_index
    ]
    assert {run_search(folder, **request)[2] for request in QUESTIONS} == {""}
    assert any(answer[0] for answer in answers_without_index)
    for request, (_, _, note) in zip(QUESTIONS, answers_without_index, strict=True):
        positive = any(len(word) > 2 for word in request.get("query", "").split() if word[0] not in "-#")
        assert ("dbctl search index build games" in note) == positive


def test_counts_are_equal_and_plan_uses_index(folder):
    request = SearchRequest(query="hero")
    with open_app(folder) as app:
        count_without_index = search.count(app, "games", request)
        assert "is missing" in count_without_index.note
    build(folder)
    with open_app(folder) as app:
        count = search.count(app, "games", request)
        assert (count.count, count.note) == (count_without_index.count, "")
        assert count.count.total > 0
        plan = search.explain(app, "games", request, PageRequest(limit=5))
        assert "VIRTUAL TABLE" in plan.plan[0].step
        assert plan.full_scans == []


def test_index_is_rebuilt_only_after_database_changes(folder):
    result = build(folder)
    assert result.changed
    assert result.index == str(folder / "Data/flashpoint.sqlite.dbctl-search-games")
    assert not build(folder).changed
    assert read_status(folder).state == "valid"
    with closing(sqlite3.connect(folder / "Data/flashpoint.sqlite")) as launcher:
        launcher.execute("update game set title = 'Zebra Quest' where rowid = 1")
        launcher.commit()
        launcher.execute("pragma wal_checkpoint(truncate)")
    status = read_status(folder)
    assert (status.state, status.reason) == ("stale", "flashpoint.sqlite was changed since it was created")
    items, total, note = run_search(folder, "zebra quest")
    assert ([item["title"] for item in items], total) == (["Zebra Quest"], 1)
    assert "was changed since it was created" in note
    assert build(folder).changed
    assert run_search(folder, "zebra quest")[1:] == (1, "")


def test_index_is_in_cache_if_database_folder_is_read_only(folder, monkeypatch):
    access = os.access
    data = str(folder / "Data")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != data and access(path, mode))
    result = build(folder)
    assert Path(result.index).parent == folder / "cache/dbctl/search"
    assert run_search(folder, "hero")[2] == ""
    assert read_status(folder).path == result.index
    assert (folder / "cache/dbctl/search").stat().st_mode & 0o777 == 0o700


def test_index_is_in_cache_on_request(folder):
    from dbctl.services.search.indexes.selection import create_change

    build(folder)
    result = build(folder, cache=True)
    assert Path(result.index).parent == folder / "cache/dbctl/search"
    (folder / "Data/flashpoint.sqlite.dbctl-search-games").unlink()
    assert run_search(folder, "hero")[2] == ""
    with open_app(folder) as app:
        assert create_change(app, "", "drop").apply().changed
    assert list_files(folder) == ["Data/flashpoint.sqlite", "dbctl.toml"]


def test_user_without_home_has_no_index_cache(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "nowhere")
    assert run_search(folder, "hero")[1] > 0
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        build(folder, cache=True)
    assert Path(build(folder).index).parent == folder / "Data"


def test_index_is_in_configured_folder(folder):
    from dbctl.services.search.indexes.selection import create_change

    configure(folder, '[apps.games.search]\nfolder = "indexes"\n')
    result = build(folder)
    assert Path(result.index).parent == folder / "indexes"
    assert run_search(folder, "hero")[2] == ""
    with open_app(folder) as app, pytest.raises(UsageError, match="--cache"):
        create_change(app, "", "build", cache=True)
    (job,) = [
        job_ for job_ in list_jobs([Selection(config=str(folder / "dbctl.toml"))]) if job_.name == "search"
    ]
    assert list(job.command[1:5]) == ["search", "index", "build", "games"]


def test_no_job_without_configured_folder(folder):
    assert "search" not in {job.name for job in list_jobs([Selection(config=str(folder / "dbctl.toml"))])}


def test_plan_writes_nothing_and_drop_removes_all_files(folder):
    from dbctl.services.search.indexes.selection import create_change

    before = list_files(folder)
    with open_app(folder) as app:
        plan = create_change(app, "games", "build").plan()
        assert len(plan.steps) == 2
        assert "1,200 rows" in plan.steps[1]
    assert list_files(folder) == before
    build(folder)
    with open_app(folder) as app:
        drop = create_change(app, "games", "drop")
        assert [str(folder / "Data/flashpoint.sqlite.dbctl-search-games")] == [
            step.removeprefix("remove ") for step in drop.plan().steps
        ]
        assert drop.apply().changed
        assert not create_change(app, "games", "drop").apply().changed
    assert list_files(folder) == before


def test_check_reports_problems_of_index(folder, monkeypatch):
    from dbctl.services.search.indexes.selection import check, create_change

    monkeypatch.setattr(external, "SAMPLE", 50)

    def list_codes(**options):
        with open_app(folder) as app:
            return [(finding.severity, finding.code) for finding in check(app, **options).findings]

    assert list_codes() == [("info", "search-index-missing")]
    index = Path(build(folder).index)
    assert list_codes() == list_codes(full=True) == []
    stat = index.stat()
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("update places set k0 = 1 - k0 where place = 1")
        connection.commit()
    os.utime(index, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert list_codes() == [("error", "search-index-wrong")]
    with open_app(folder) as app:
        assert "have other values" in create_change(app, "", "repair").plan().steps[0]
        assert create_change(app, "", "repair").apply().changed
        assert not create_change(app, "", "repair").apply().changed
    assert list_codes() == []
    index.write_bytes(index.read_bytes()[:5_000])
    assert list_codes() == [("error", "search-index-broken")]
    assert run_search(folder, "hero")[1] > 0
    assert "is not usable" in run_search(folder, "hero")[2]


def test_repair_replaces_an_index_that_cannot_be_read(folder):
    """The check and the repair failed, and a build had nothing to do."""
    from dbctl.services.search.indexes.selection import check, create_change

    path = folder / build(folder).index
    status, content = path.stat(), bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("select rootpage from sqlite_master where name = 'places'")
    content[(page - 1) * int.from_bytes(content[16:18], "big")] = 255
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as after damage by a disk
    with open_app(folder) as app:
        assert [(finding.severity, finding.code) for finding in check(app).findings] == [
            ("error", "search-index-wrong")
        ]
        assert create_change(app, "", "repair").apply().changed
        assert check(app).findings == []


def test_doctor_reports_unused_index_but_requires_none(folder):
    def list_findings():
        findings = examine([Selection(config=str(folder / "dbctl.toml"))], timeout=1).findings.findings
        return [entry for entry in findings if entry.code.startswith("search-index")]

    assert list_findings() == []
    build(folder)
    assert list_findings() == []
    os.utime(folder / "Data/flashpoint.sqlite")
    (finding,) = list_findings()
    assert (finding.severity, finding.code) == ("warning", "search-index-stale")
    assert "search index build games" in finding.hint


def test_wrong_index_is_ignored_with_note(folder):
    index = Path(build(folder).index)
    expected = run_search(folder, "hero")
    stat = index.stat()
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("update places set number = 1201 - number")
        connection.commit()
    os.utime(index, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    items, total, note = run_search(folder, "hero")
    assert (items, total) == expected[:2]
    assert "without the words" in note


def test_custom_profile_has_external_index(tmp_path):
    from dbctl.services.app.session import open_app as open_selected
    from dbctl.services.search.indexes.selection import create_change, read_statuses

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
    with open_selected(Selection(profile=str(profile), urls=[f"shelves={path}"]), timeout=1) as app:
        with pytest.raises(UsageError, match="books or writers"):
            create_change(app, "", "build")
        for name in ("books", "writers"):
            create_change(app, name, "build").apply()
        result = search.find(app, "books", SearchRequest(words=["melVILLE"]), PageRequest())
        assert ([item["name"] for item in result.items], result.total, result.note) == (["Moby Dick"], 1, "")
        assert search.find(app, "writers", SearchRequest(words=["*ville*"]), PageRequest()).total == 2
        assert {entry.state for entry in read_statuses(app).items} == {"valid"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "library.toml",
        "shelves.db",
        "shelves.db.dbctl-search-books",
        "shelves.db.dbctl-search-writers",
    ]


def test_writable_database_has_no_external_index(tmp_path):
    from dbctl.services.app.session import open_app as open_selected
    from dbctl.services.search.indexes.selection import create_change

    profile = tmp_path / "library.toml"
    profile.write_text(LIBRARY.replace('mode = "read-only"', 'mode = "read-write"').replace("owner =", "#"))
    path = tmp_path / "shelves.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table books (nr integer primary key, name text, writer text, is_lost int)")
    with open_selected(Selection(profile=str(profile), urls=[f"shelves={path}"]), timeout=1) as app:
        assert search.find(app, "books", SearchRequest(words=["melville"]), PageRequest()).note == ""
        with pytest.raises(NotSupportedError):
            create_change(app, "books", "build")


def test_existing_folder_at_index_path_is_an_error(folder):
    (folder / "Data/flashpoint.sqlite.dbctl-search-games").mkdir()
    with pytest.raises(FileFailedError, match="move it away"):
        build(folder)
    assert list_files(folder) == ["Data/flashpoint.sqlite", "dbctl.toml"]
    assert (folder / "Data/flashpoint.sqlite.dbctl-search-games").is_dir()
    assert run_search(folder, "hero")[1] > 0


@pytest.mark.parametrize("content", [b"notes of an admin", None])
def test_file_that_dbctl_did_not_create_is_not_replaced_or_deleted(folder, content):
    """A build replaced it, and a drop deleted it."""
    from dbctl.services.search.indexes.selection import create_change

    path = folder / "Data/flashpoint.sqlite.dbctl-search-games"
    if content is None:
        shutil.copy(folder / "Data/flashpoint.sqlite", path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    for action in ("build", "repair", "drop"):
        with open_app(folder) as app:
            change = create_change(app, "games", action)
            for run in (change.plan, change.apply):
                with pytest.raises(FileFailedError, match="move it away"):
                    run()
    assert path.read_bytes() == before
    assert list_files(folder) == [
        "Data/flashpoint.sqlite",
        "Data/flashpoint.sqlite.dbctl-search-games",
        "dbctl.toml",
    ]


@pytest.mark.parametrize("size", [0, 4_096, 6_000])
def test_truncated_index_and_link_are_replaced(folder, size):
    path = Path(build(folder).index)
    path.write_bytes(path.read_bytes()[:size])
    assert build(folder).changed
    real = path.rename(folder / "real")
    path.symlink_to(real)
    before = real.read_bytes()
    assert build(folder).changed
    assert (path.is_symlink(), real.read_bytes()) == (False, before)


def test_status_fields_are_typed(folder):
    build(folder)
    status = read_status(folder)
    assert status.bytes == Path(status.path or "").stat().st_size
    assert status.created_at is not None
    assert json.loads(json.dumps(status.summary(), default=str))["state"] == "valid"
