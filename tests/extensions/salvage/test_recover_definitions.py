"""Definitions that are no text, and pages with damaged heads: damage is reported, and rows are saved."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.errors.base import Exit

ROWS = 3000
#: Bytes of the head of a leaf: first free block, number of cells, beginning of the cells, fragments.
HEADS = {
    "all": (1, b"\xa5\x5a\xff\xf1\x13\x77\x99"),
    "too many cells": (3, b"\x03\x00"),
    "more cells than fit": (3, b"\xff\xff"),
    "no cells": (3, b"\x00\x00"),
    "beginning": (5, b"\x00\x01"),
    "free block": (1, b"\x33\x33"),
}


def create(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            "pragma page_size = 4096; create table k (a text primary key, b) without rowid;"
            "create table t (id integer primary key, v text); begin;"
        )
        db.executemany("insert into k values (?, ?)", ((f"key{n}", n) for n in range(ROWS)))
        db.executemany("insert into t values (?, ?)", ((n, f"value {n}") for n in range(ROWS)))
        db.execute("commit")
    return path


@pytest.fixture
def damaged(tmp_path):
    """A file whose definition of table k has a byte that is not UTF-8."""
    path = create(tmp_path / "app.db")
    path.write_bytes(path.read_bytes().replace(b"text primary key, b)", b"text primary key\xd3 b)", 1))
    return path


def recover(answer, path, *words):
    result = answer(
        "restore", "recover", "--from", str(path), "--to", str(path.with_name("new.db")), *words, status=4
    )
    return result["data"], {table["table"]: table for table in result["data"]["tables"]}


@pytest.fixture
def _no_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("DBCTL_CONFIG", raising=False)


def test_damaged_definition_is_reported_as_damage(damaged, answer, tmp_path):
    """It is no invalid value of the user."""
    url = ["--profile", "plain", "--url", f"main={damaged}"]
    findings = answer(*url, "integrity", "check", status=Exit.CHECK_FAILED)["data"]["findings"]
    assert [finding["code"] for finding in findings] == ["corrupt"]
    error = answer(
        *url, "backup", "create", "--repository", str(tmp_path / "backups"), status=Exit.CHECK_FAILED
    )["error"]
    assert error["code"] == "corrupt"


@pytest.mark.usefixtures("_no_configuration")
def test_rows_of_a_damaged_definition_are_saved_and_counted(damaged, answer):
    """The files name everything, so that no configuration is needed."""
    data, tables = recover(answer, damaged)
    assert (tables["t"]["saved"], tables["t"]["lost"]) == (ROWS, 0)
    assert (tables["k"]["saved"], tables["k"]["rejected"]) == (0, ROWS)
    with closing(sqlite3.connect(data["quarantine"])) as db:
        assert db.execute("select count(distinct field1), sum(field2) from k").fetchall() == [
            (ROWS, sum(range(ROWS)))
        ]


@pytest.mark.usefixtures("_no_configuration")
def test_closing_line_counts_rejected_rows(damaged, start, tmp_path):
    command = ["restore", "recover", "--from", damaged, "--to", tmp_path / "new.db"]
    result = start(*command, environment={"HOME": str(tmp_path)}, cwd=str(tmp_path))
    assert f"{ROWS:,} rows rejected" in result.stderr.splitlines()[-1]


@pytest.mark.usefixtures("_no_configuration")
def test_reference_replaces_a_damaged_definition(damaged, answer, tmp_path):
    (tmp_path / "valid").mkdir()
    _, tables = recover(answer, damaged, "--reference", str(create(tmp_path / "valid" / "app.db")))
    assert (tables["k"]["saved"], tables["k"]["rejected"]) == (ROWS, 0)


@pytest.mark.usefixtures("_no_configuration")
@pytest.mark.parametrize(("offset", "content"), HEADS.values(), ids=HEADS.keys())
def test_rows_of_a_leaf_with_a_damaged_head_are_saved(tmp_path, answer, offset, content):
    path = create(tmp_path / "app.db")
    raw = bytearray(path.read_bytes())
    leaf = next(
        page
        for page in range(4096, len(raw), 4096)
        if raw[page] == 13 and b"value 1500" in raw[page : page + 4096]
    )
    raw[leaf + offset : leaf + offset + len(content)] = content
    path.write_bytes(raw)
    result = answer(
        "restore", "recover", "--from", str(path), "--to", str(tmp_path / "new.db"), "--force", status=None
    )
    tables = {table["table"]: table for table in result["data"]["tables"]}
    assert (tables["t"]["saved"], tables["t"]["lost"], tables["t"]["unread_ranges"]) == (ROWS, 0, 0)
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        assert db.execute("select count(*), sum(id) from t").fetchall() == [(ROWS, sum(range(ROWS)))]
