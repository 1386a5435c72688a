"""Every migration that travels with dbctl: up, back where it has a way back, and up again to the same schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from dbctl.config import Selection
from dbctl.engines.registry import language
from dbctl.profiles import loader
from dbctl.services.app import app as apps
from dbctl.services.migrations.status import shipped_track
from tests.databases import Kept, nothing_yet

#: Profile, database, shape and engine of all that dbctl ships.
SHIPPED = [
    (name, database, shape, engine)
    for name in loader.names()
    for database, told in loader.load(name).databases.items()
    if told.migrations and name != "plain"
    for shape, engines in [(one.name, one.engines) for one in told.migrations.shape] or [("", ())]
    for engine in told.engines
    if not engines or engine in engines
]
Answer = Callable[..., dict[str, Any]]
#: What deployments of YAAI ran: the app's own ways down do not work.
NO_WAY_DOWN = {"deployed", "printed", "printed-indexed", "printed-completed"}


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    def answer(*words: str) -> dict[str, Any]:
        status = main([*words, "-o", "json"])
        told = json.loads(capsys.readouterr().out)
        assert status == 0, told
        return dict(told)

    return answer


def schema(place: Kept) -> Sequence[tuple[object, ...]]:
    """Return what the database itself says of its schema."""
    if place.engine == "sqlite":
        rows = place.rows(
            "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite_%'"
        )
    else:
        columns = "table_name, column_name, data_type, is_nullable, column_default"
        rows = place.rows(
            f"select {columns} from information_schema.columns where table_schema = "
            + ("database()" if place.engine == "mysql" else "current_schema()")
        )
    return sorted(rows, key=str)


@pytest.mark.parametrize(("profile", "database", "shape", "engine"), SHIPPED)
def test_they_go_up_and_status_reads_a_copy_without_a_trace(
    profile: str, database: str, shape: str, engine: str, tmp_path: Path, answer: Answer
) -> None:
    track = shipped_track(loader.load(profile), database, profile, engine, shape=shape)
    shaped = ["--variant", shape] if shape else []
    with nothing_yet(engine, tmp_path / "it.db") as place:
        app = ["--profile", profile, "--url", f"{database}={place.url}", "--db", database]
        done = answer(*app, "migrate", "up", *shaped)["data"]["items"]
        others = {name for names in track.told.one_of for name in names[1:]} & track.folder.files.keys()
        assert [one["name"] for one in done] == [name for name in track.folder.files if name not in others]
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for path in tmp_path.iterdir():
            path.chmod(0o444)
        items = answer(*app, "migrate", "status", "--check")["data"]["items"]
        assert {one["state"] for one in items} == ({"applied", "baseline"} if others else {"applied"})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        for path in tmp_path.iterdir():
            path.chmod(0o644)

        made = schema(place)
        read = language(engine)
        back = []
        for name, file in reversed(track.folder.files.items()):
            if file.down(read) is None:
                break
            back.append(name)
        if back:
            down = answer(*app, "migrate", "down", "--steps", str(len(back)), "--yes", "--no-backup")
            assert [one["name"] for one in down["data"]["items"]] == back
            assert schema(place) != made
            again = answer(*app, "migrate", "up", *shaped)["data"]["items"]
            assert [one["name"] for one in again] == back[::-1]
            assert schema(place) == made


def test_those_of_a_format_with_ways_down_have_them() -> None:
    for profile, database, shape, engine in SHIPPED:
        track = shipped_track(loader.load(profile), database, profile, engine, shape=shape)
        if track.told.format in ("up-down", "dbmate", "goose") and not (
            profile == "yaai" and (shape in NO_WAY_DOWN or database == "memory")
        ):
            assert all(file.down(language(engine)) for file in track.folder.files.values())


@pytest.mark.parametrize(
    ("profile", "database"),
    sorted({(name, database) for name, database, _, engine in SHIPPED if engine == "sqlite"}),
)
def test_what_runs_in_a_new_file_is_on_the_disk_once_it_is_told(
    profile: str, database: str, tmp_path: Path
) -> None:
    said = Selection(profile=profile, urls=[f"{database}={tmp_path / 'new.db'}"])
    with apps.opened(said, timeout=1) as app, app.writer(database, "migrate up", create=True) as db:
        assert db.query("pragma synchronous") == [
            (3,)
        ]  # EXTRA: each commit is synced, and that its journal is gone
