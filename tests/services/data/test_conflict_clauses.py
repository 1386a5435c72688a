"""A key that exists is refused where ON CONFLICT REPLACE of the app's table would delete the other row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.engines.contract.database import Condition, Merge
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteWriter
from dbctl.errors.connection import ConstraintError

TABLES = """
create table notes (
    id integer primary key on conflict replace,
    code text unique on /* the newest counts */ conflict replace, -- conflict
    title text
);
create table links (id integer primary key, note references notes on delete cascade);
insert into notes values (1, 'a', 'first'), (2, 'b', 'second');
insert into links values (1, 1), (2, 2);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "notes.db")) as file, file:
        file.executescript(TABLES)
    return tmp_path / "notes.db"


def read(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as file:
        return [file.execute(f"select * from {table}").fetchall() for table in ("notes", "links")]


@pytest.mark.parametrize(
    "words",
    [
        ("add", "notes", "code=a"),
        ("add", "notes", "id=2", "code=c"),
        ("set", "notes", "1", "code=b"),
        ("set", "notes", "--filter", "id=1", "code=b"),
        ("import", "notes", "rows.csv"),
        pytest.param(("replace", "a", "b", "--table", "notes"), marks=pytest.mark.needs_extension("copies")),
    ],
)
def test_row_with_a_stored_key_is_refused(
    path: Path, words: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    Path("rows.csv").write_text("code,title\nc,third\na,fourth\n")
    before = read(path)
    assert main(["--profile", "plain", "--url", f"main={path}", "data", *words, "--yes"]) == 6
    assert read(path) == before


def test_merged_row_with_a_stored_key_is_refused(path: Path) -> None:
    before = read(path)
    with closing(SQLiteWriter(path, "notes", OpenOptions())) as db:
        for select in ("select 1, 'b'", "select 3, 'b'"):
            merge = Merge(
                table="notes", select=select, parameters={}, key=["id"], columns={"code": "replace"}
            )
            with pytest.raises(ConstraintError), db.transaction():
                db.merge(merge)
        staged = db.staging.stage("notes", ["id"], ["id", "code"], [(1, "b")])
        with pytest.raises(ConstraintError), db.transaction():
            staged.replace(["code"])
    assert read(path) == before


def test_new_row_and_a_changed_one_are_written(path: Path) -> None:
    with closing(SQLiteWriter(path, "notes", OpenOptions())) as db, db.transaction():
        db.insert("notes", {"code": "c"})
        db.insert_many("notes", ["id", "code"], [(5, "e"), (6, "f")])
        assert db.update("notes", {"code": "d"}, [Condition("id", "=", 1)]) == 1
    assert read(path)[0] == [
        (1, "d", "first"),
        (2, "b", "second"),
        (3, "c", None),
        (5, "e", None),
        (6, "f", None),
    ]
