"""Rows of SQLite files are written through sqlite-utils, or at one of the places that docs/design/sqlite.md lists."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

import dbctl
from dbctl.cli.main import main
from tests.cli.test_effects import MORE_LINES
from tests.cli.test_reference import EXAMPLES, app_folder, deployment, receiver, split_line
from tests.services.app.test_write_paths import FURTHER_LINES, WRITES

__all__ = ["app_folder", "deployment", "receiver"]

SOURCE = Path(dbctl.__file__).parent
PAGE = SOURCE.parent / "docs/design/sqlite.md"
#: The places with statements of their own that write rows, as module and function.
PLACES = {
    f"{module} {function}"
    for module, functions in re.findall(r"^\| `([\w/]+\.py)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    for function in re.findall(r"`(\w+)`", functions)
}
#: Modules whose functions only run statements of others.
RUNNERS = ("engines/sqlite/connection.py", "engines/sqlite/write_connection.py")
WRITING = re.compile(r"\s*(?:with\b.*?\)\s*)?(insert|update|delete|replace)\b", re.IGNORECASE | re.DOTALL)


def find_place():
    """Return the place in the code of the statement that now runs; empty if sqlite-utils runs it."""
    frame, place = sys._getframe(2), ""
    while frame:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if path.parent.name == "sqlite_utils":
            return ""
        if not place and path.is_relative_to(SOURCE) and name[0] != "<":
            module = path.relative_to(SOURCE).as_posix()
            place = "" if module in RUNNERS else f"{module} {name}"
        frame = frame.f_back
    return place


@pytest.fixture
def places(monkeypatch):
    """The places of the statements that write rows, with an example of each; an empty place is sqlite-utils."""
    connect, places = sqlite3.connect, {}

    def connect_traced(*arguments, **options):
        connection = connect(*arguments, **options)

        def record(statement):
            if WRITING.match(statement):
                places.setdefault(find_place(), statement)

        connection.set_trace_callback(record)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_traced)
    return places


def list_lines():
    lines = dict.fromkeys([*EXAMPLES, *MORE_LINES, *FURTHER_LINES])
    commands = tuple(f"{purpose.partition(' --')[0]} " for purpose in WRITES)
    last = {line: f"{line.rpartition(' && ')[2]} " for line in lines if "--dry-run" not in line}
    return [line for line, command in last.items() if command.startswith(commands)]


@pytest.mark.parametrize("deployment", ["document"], indirect=True)
@pytest.mark.parametrize("line", list_lines())
def test_rows_are_written_through_sqlite_utils_or_at_a_listed_place(line, app_folder, places):
    with closing(sqlite3.connect(app_folder / "backend/user.db")) as connection:
        (user,) = connection.execute(
            "select username from users join refresh_tokens t on t.user_id = users.id where role_id <> 1 and is_active"
        ).fetchone()
    for part in line.replace("{user}", user).split(" && "):
        if part.startswith("SQL "):
            with closing(sqlite3.connect(app_folder / "backend/user.db")) as connection, connection:
                connection.execute(part.removeprefix("SQL "))
            places.clear()
        else:
            main([*split_line(part, app_folder), "--quiet"])
    assert places
    assert {place: text for place, text in places.items() if place not in {"", *PLACES}} == {}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[pytest.mark.needs_extension(place.split("/")[1])])
        if place.startswith("extensions/")
        else place
        for place in sorted(PLACES)
    ],
)
def test_listed_place_exists(place):
    module, name = place.split()
    assert re.search(rf"^ *def {name}\(", (SOURCE / module).read_text(encoding="utf-8"), re.MULTILINE)
