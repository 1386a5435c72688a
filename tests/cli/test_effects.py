"""The effect of each change, which its closing line states, compared with the rows and files before and after it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbctl.cli.main import main
from tests.cli.closings import read_closing_lines
from tests.cli.test_reference import (
    EXAMPLES,
    app_folder,
    deployment,
    is_change,
    receiver,
    split_line,
    validate,
)
from tests.databases import PostgreSQL

__all__ = ["app_folder", "deployment", "receiver"]

#: Commands that write only the state of dbctl or other databases than those of the deployment.
WITHOUT_FILES = ("notify", "runs prune", "backup drill", "profiles draft")
#: Further lines: their changes have no permission, nothing to do, or both.
MORE_LINES = [
    "roles create viewer --description Sees",
    "roles create viewer",
    "roles grant helper games.play",
    "users set-role eve user",
    "users update eve --email eve@example.org",
    "users ensure eve --role user --generate",
    "users ensure zoe --email zoe@example.org --role user --generate",
    "sessions revoke eve",
    "users unlock eve",
    "data delete login_attempts --filter id<0 --yes",
]
#: Tables by noun, of objects that are rows.
TABLES = {"user": ("users", "User"), "role": ("roles",), "row": ()}
#: What is written although nothing changes for the user: the log of the app, and counters.
LOGS = ("activity_logs", "sqlite_sequence")


class Rows:
    """Rows of the databases of a deployment by table and key; a file that is not the main database has its own names of tables."""

    def __init__(self, folder: Path, main_database: PostgreSQL | None = None) -> None:
        self.tables: dict[str, dict[object, object]] = {}
        if main_database:
            self.tables |= dict(self._read_server(main_database))
        paths = [
            path
            for path in folder.rglob("*.*")
            if path.suffix in {".db", ".sqlite"} and path.parent != folder
        ]
        for path in sorted(path for path in paths if not {"backups", "state"} & {*path.parts}):
            with closing(sqlite3.connect(path)) as connection:
                rows = dict(self._read(connection))
            self.tables |= {f"legacy_{name}": rows[name] for name in rows} if main_database else rows

    @staticmethod
    def _read_server(database: PostgreSQL) -> Iterator[tuple[str, dict[object, object]]]:
        names = database.tables()
        keys = database.rows(
            "select c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attnum), count(*) from pg_index i"
            " join pg_class c on c.oid = i.indrelid join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)"
            " where i.indisprimary and c.relnamespace = current_schema()::regnamespace group by 1"
        )
        results = database.results(*(f'select {key}, * from "{name}"' for name, key, _ in keys))
        assert len(keys) == len(names)
        for (name, _, width), rows in zip(keys, results, strict=True):
            yield str(name), {row[:width]: row[width:] for row in rows}

    @staticmethod
    def _read(connection: sqlite3.Connection) -> Iterator[tuple[str, dict[object, object]]]:
        names = [
            name
            for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")
            if not name.startswith(LOGS)
        ]
        for name in names:
            key = [row[1] for row in connection.execute(f'pragma table_info("{name}")') if row[5]] or [
                "rowid"
            ]
            rows = connection.execute(f'select {", ".join(key)}, * from "{name}"').fetchall()
            yield name, {row[: len(key)]: row[len(key) :] for row in rows}


class Difference:
    """Numbers of added, deleted and changed rows by table."""

    def __init__(self, before: Rows, after: Rows) -> None:
        self.added, self.deleted, self.changed = dict[str, int](), dict[str, int](), dict[str, int]()
        for name in {*before.tables, *after.tables}:
            old, new = before.tables.get(name, {}), after.tables.get(name, {})
            self.added[name] = len(new.keys() - old.keys())
            self.deleted[name] = len(old.keys() - new.keys())
            self.changed[name] = sum(old[key] != new[key] for key in old.keys() & new.keys())

    def count(self, counts: Mapping[str, int], noun: str) -> int:
        """Return the number for the table of ``noun``, or for all."""
        tables = TABLES.get(noun, ())
        return sum(counts.get(table, 0) for table in tables) if tables else sum(counts.values())

    @property
    def is_empty(self) -> bool:
        return not any(sum(counts.values()) for counts in (self.added, self.deleted, self.changed))


def read_files(folder: Path) -> dict[Path, str]:
    """Return digests of the files, except the state of dbctl, locks, and files of SQLite that readers write."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
        and "state" not in path.parts
        and not (path.suffix == ".db" and path.parent != folder)  # its rows are compared
        and not path.name.endswith((".dbctl-lock", "-shm", "-wal"))
    }


def run(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    """Run a command, and compare its result with the schema; return the result and the closing line."""
    capsys.readouterr()
    status = main([*words, "-o", "json"])
    output = capsys.readouterr()
    assert status == 0, output
    response = json.loads(output.out)
    validate(response)
    result: dict[str, object] = response["data"]
    return result, " ".join(read_closing_lines(output.err))


def check_created(difference: Difference, noun: str, count: int) -> None:
    assert difference.count(difference.added, noun) == count


def check_deleted(difference: Difference, noun: str, count: int) -> None:
    assert difference.count(difference.deleted, noun) >= count
    assert not TABLES[noun] or difference.count(difference.deleted, noun) == count


def check_changed(difference: Difference, noun: str, count: int) -> None:
    linked = sum(difference.added.values()) + sum(difference.deleted.values())
    assert difference.count(difference.changed, noun) == count or linked
    assert not any(difference.added.get(table) or difference.deleted.get(table) for table in TABLES[noun])


CHECKS: dict[str, Callable[[Difference, str, int], None]] = {
    "created": check_created,
    "added": check_created,
    "imported": check_created,
    "deleted": check_deleted,
    "changed": check_changed,
}


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in dict.fromkeys([*EXAMPLES, *MORE_LINES])
        if is_change(line) and not (line in EXAMPLES and EXAMPLES[line].status)
    ],
)
def test_effect_and_closing_line_are_what_happened(
    line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for needed in EXAMPLES[line].needs if line in EXAMPLES else ():
        assert needed not in EXAMPLES or main(split_line(needed, app_folder)) == 0
    compare_effect(line, split_line(line, app_folder), app_folder, capsys)


def compare_effect(
    line: str,
    words: Sequence[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    main_database: PostgreSQL | None = None,
) -> tuple[dict[str, Any], Difference]:
    """Run a command, and compare its effect and its closing line with the rows and files before and after it; return the effect."""
    rows, files = Rows(folder, main_database), read_files(folder)
    result, text = run(words, capsys)
    difference = Difference(rows, Rows(folder, main_database))
    if "effect" not in result:  # with its options the command only shows something
        assert difference.is_empty
        return {}, difference
    effect = result["effect"]
    if effect is None:
        assert difference.is_empty
        assert read_files(folder) == files
        assert text.startswith(("Nothing to do", "Checked "))
        return {}, difference
    assert isinstance(effect, dict)
    if not line.startswith(
        (*WITHOUT_FILES, "maintain", "restore apply", "restore undo", "sessions rebuild-stats")
    ):
        assert not difference.is_empty or read_files(folder) != files, effect
    count = len(effect["names"]) or effect["count"]
    assert text.lower().startswith(effect["verb"])
    assert all(name in text for name in effect["names"][:3]) or str(count) in text
    if effect["noun"] in TABLES and effect["verb"] in CHECKS:
        CHECKS[effect["verb"]](difference, effect["noun"], count)
    if sessions := effect["counts"].get("sessions ended"):
        ended = [difference.deleted, difference.changed]
        assert (
            sum(counts[name] for counts in ended for name in counts if name not in TABLES["user"]) == sessions
        )
    return effect, difference
