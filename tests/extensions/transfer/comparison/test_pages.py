"""The comparison of pages finds exactly the rows that the comparison of all rows finds."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from dbctl.engines import registry
from dbctl.extensions.transfer.comparison.differing_rows import read_changes
from dbctl.extensions.transfer.portable.contract import ChangedRows, LineColumn
from dbctl.url import Url

TABLES = """create table notes (id integer primary key, title text, body blob);
create index by_title on notes (title);
create table words (word text primary key, count integer);
create table pairs (a integer, b text, primary key (a, b)) without rowid;
create table log (at text, line text)"""
CHANGES = (
    "update notes set title = 'changed ' || {n} where id = {n}",
    "update notes set body = zeroblob({size}) where id = {n}",
    "update notes set body = randomblob(9000) where id = {n}",
    "update notes set body = substr(body, 1, length(body) - 4) || 'tail' where id = {n}",
    "insert into notes values (null, 'new', randomblob({size}))",
    "insert into notes values (-{n}, 'negative', null)",
    "delete from notes where id between {n} and {n} + 300",
    "update words set count = count + 1 where word = 'word {n}'",
    "insert or ignore into pairs values ({n}, 'new')",
    "insert into log values ('now', printf('%.*c', {size}, 'x'))",
    "delete from log where rowid % 7 = 0",
    "delete from words",
    "vacuum",
)


@pytest.fixture
def create(tmp_path):
    """Create a file, and a copy that statements change; return both, open for reading."""
    opened = []

    def run(*statements, page_size=512, setup=()):
        paths = tmp_path / "first.db", tmp_path / "second.db"
        for path in paths:
            path.unlink(missing_ok=True)
        with closing(sqlite3.connect(paths[0], isolation_level=None)) as db:
            db.execute(f"pragma page_size = {page_size}")
            for statement in (*setup, *TABLES.split(";"), "begin"):
                db.execute(statement)
            db.executemany(
                "insert into notes values (?, ?, zeroblob(?))",
                [(n, f"t {n}", n % 50 * 40) for n in range(3000)],
            )
            db.executemany("insert into words values (?, ?)", [(f"word {n}", n) for n in range(2000)])
            db.executemany("insert into pairs values (?, 'b')", [(n,) for n in range(500)])
            db.executemany("insert into log values ('then', ?)", [(f"line {n}",) for n in range(2000)])
            db.execute("commit")
        shutil.copy(*paths)
        with closing(sqlite3.connect(paths[1], isolation_level=None)) as db:
            for statement in statements:
                db.execute(statement)
        engine = registry.load_engine("sqlite")
        opened[:] = [
            *opened,
            *(
                engine.open_for_reading(Url(engine="sqlite", path=str(path)), "t", timeout=5)
                for path in paths
            ),
        ]
        return opened[-2:]

    yield run
    for db in opened:
        db.close()


def list_changes(databases, *, private):
    return list(read_changes(*databases, "main", limit=10_000, private=private))


@pytest.mark.parametrize("seed", range(12))
def test_pages_show_the_rows_that_differ(create, seed):
    source = random.Random(seed)  # noqa: S311 - repeatable
    selected = source.sample(CHANGES, source.randint(1, 4))
    statements = [
        text.format(n=source.randint(1, 2900), size=source.choice([10, 400, 5000])) for text in selected
    ]
    databases = create(*statements, page_size=source.choice([512, 1024, 4096, 65536]))
    assert list_changes(databases, private=True) == list_changes(databases, private=False)


@pytest.mark.parametrize("size", [300, 600, 5000, 70_000])
def test_end_of_a_long_value_may_be_on_pages_of_its_own(create, size):
    setup = ("create table long (id integer primary key, body text)",)
    value = "x" * size
    databases = create(page_size=512, setup=[*setup, f"insert into long values (7, '{value}')"])
    for db in databases:
        db.close()
    paths = [db.connection.path for db in databases]
    with closing(sqlite3.connect(paths[1], isolation_level=None)) as db:
        db.execute("update long set body = ? where id = 7", [f"{value[:-1]}y"])
    engine = registry.load_engine("sqlite")
    databases = [
        engine.open_for_reading(Url(engine="sqlite", path=str(path)), "t", timeout=5) for path in paths
    ]
    (change,) = list_changes(databases, private=True)
    assert (change.table, change.images[0].after["body"][-2:]) == ("long", "xy")
    for db in databases:
        db.close()


def read_column(source, table, column):
    with source.stream_lines(table, [LineColumn(name=column, kind="integer")]) as batches:
        return [int(line) for batch in batches for line in batch.lines]


def test_rows_on_equal_pages_are_not_read(create):
    first, second = create("update notes set title = 'changed' where id = 1500", page_size=4096)
    for source in first.extension_part(ChangedRows).select_changed(second, (), private=True):
        assert read_column(source, "words", "count") == read_column(source, "log", "rowid") == []
        ids = read_column(source, "notes", "id")
        assert 1000 < ids[0] <= 1500 <= ids[-1] < 2000
        assert len(read_column(source, "pairs", "a")) == 500


@pytest.mark.parametrize("setup", ["pragma auto_vacuum = full", "pragma journal_mode = wal"])
def test_other_files_are_compared_row_by_row(create, setup):
    first, second = create("update notes set title = 'changed' where id = 15", setup=[setup])
    assert first.extension_part(ChangedRows).select_changed(second, (), private=True) is None
    (change,) = list_changes((first, second), private=True)
    assert change.images[0].key == {"id": 15}
