"""With the copy alone, no original is found: in free pages, logs, indexes, statistics, and after the command was killed."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dbctl.engines.contract.database import Column
from dbctl.extensions.copies.proof import MAX_ORIGINALS, Originals, Scanner, is_too_short
from dbctl.extensions.copies.pseudonyms import Pseudonyms
from dbctl.extensions.copies.rules import ColumnRule
from tests.crash.figures import choose_count
from tests.databases import empty_database
from tests.extensions.copies.club import build_member, open_club
from tests.in_process import CLEAN_ENVIRONMENT, run_command

MEMBERS = 1100
#: Indexes with texts of their own, of another table, and without texts; statistics; free pages with deleted rows.
TRACES = (
    "create virtual table own_index using fts5(full_name, about)",
    "insert into own_index select full_name, about from members",
    "create virtual table other_index using fts5(full_name, about, content='members', content_rowid='id')",
    "insert into other_index(other_index) values ('rebuild')",
    "create virtual table bare_index using fts5(full_name, content='')",
    "insert into bare_index(rowid, full_name) select id, full_name from members",
    "create virtual table old_index using fts4(content='members', full_name)",
    "insert into old_index(old_index) values ('rebuild')",
    "create table deleted as select * from members",
    "delete from deleted where id > 3",
    "drop table deleted",
    "create trigger renamed after update on members begin insert into meta values (null, old.id, 'theme', old.full_name); end",
    "analyze",
)


def list_originals():
    """Return the distinct originals of all members."""
    for number in range(1, MEMBERS + 1):
        _, login, mail, _, name, phone, home, street, _, token, about, _, _, short, _ = build_member(number)
        yield from (login, mail, name, phone, home, street, token, short, *about.split("\n")[1:])
        yield from (
            f"Mühle {number:05}",
            f"wheel {number:05}",
            f"Quilly{number:05}",
            f"session-{number:05}-owl",
        )


def run_json(folder, *words):
    done = run_command(words, environment=CLEAN_ENVIRONMENT, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.mariadb)])
def test_none_of_ten_thousand_originals_is_found(engine, tmp_path):
    originals = list(list_originals())
    assert len(set(originals)) > 10_000
    with (
        open_club(engine, tmp_path / "app", MEMBERS) as club,
        empty_database(engine, tmp_path / "out" / "copy.db") as destination,
    ):
        (tmp_path / "out").mkdir()
        if engine == "sqlite":
            with closing(sqlite3.connect(club.path, isolation_level=None)) as db:
                db.execute("pragma journal_mode = wal")
                for statement in TRACES:
                    db.execute(statement)
        run_json(tmp_path / "app", "backup", "create")
        run_json(tmp_path / "app", "copy", "--to", destination.url, "--anonymise")
        if engine == "sqlite":
            # no search of the profile fills it, and its texts are copies
            assert destination.rows("select count(*) from own_index") == [(0,)]
            assert destination.rows("select count(*) from bare_index") == [(0,)]
            assert destination.rows("select count(*) from other_index where other_index match 'person'") == [
                (MEMBERS,)
            ]
            assert destination.rows("select count(*) from old_index where old_index match 'person'") == [
                (MEMBERS,)
            ]
            assert destination.rows("select count(*) from sqlite_stat1") != [(0,)]
            assert destination.rows("select count(*) from sqlite_master where type = 'trigger'") == [(1,)]
            assert destination.rows("pragma integrity_check") == [("ok",)]
            raw = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
        else:
            tables = destination.tables()
            destination.run(
                "analyze"
                if engine == "postgresql"
                else f"analyze table {', '.join(tables)} persistent for all"
            )
            tables += ["pg_stats"] if engine == "postgresql" else ["mysql.column_stats"]
            raw = repr([destination.rows(f"select * from {name}") for name in tables]).encode()
        assert [original for original in originals if original.encode() in raw] == []
        assert b"quillfeather" not in raw.lower()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_killed_copy_leaves_no_readable_original(engine, tmp_path):
    moments = choose_count(10, 30) if engine == "sqlite" else choose_count(4, 8)
    with open_club(engine, tmp_path / "app", 200) as club:
        run_json(tmp_path / "app", "backup", "create")
        out = tmp_path / "out"
        out.mkdir()
        with empty_database(engine, out / "copy.db") as destination:
            words = [
                sys.executable,
                "-m",
                "dbctl",
                "copy",
                "--to",
                destination.url,
                "--anonymise",
                "--replace",
                "--yes",
            ]
            environment = {**os.environ, **CLEAN_ENVIRONMENT}
            start = time.monotonic()
            subprocess.run(words, cwd=tmp_path / "app", env=environment, check=True, capture_output=True)
            duration = time.monotonic() - start
            for number in range(moments):
                with subprocess.Popen(
                    words,
                    cwd=tmp_path / "app",
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ) as process:
                    time.sleep(duration * number / moments)
                    process.send_signal(signal.SIGKILL)
                for path in out.iterdir():
                    assert b"Quillfeather" not in path.read_bytes()
                if engine != "sqlite":
                    rows = repr([destination.rows(f"select * from {name}") for name in destination.tables()])
                    assert "Quillfeather" not in rows
                for path in (tmp_path / "app" / "backups").rglob(".dbctl-*"):
                    assert not path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o700
            run_json(tmp_path / "app", "copy", "--to", destination.url, "--anonymise", "--replace", "--yes")
            assert [tuple(row) for row in destination.rows("select count(*) from members")] == [(201,)]
            assert not [
                path for path in (tmp_path / "app" / "backups").rglob(".dbctl-unpacked*") if path.is_dir()
            ]
            assert club.rows("select count(*) from members")


def test_telephone_number_contains_no_address_of_a_network():
    assert re.fullmatch(r"\+999 \d{3}(/\d{3}){3}", Pseudonyms(b"key").replace("phone", "0151-5512345"))


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("1990-05-05", "1990-05-04"),
        ("1990-05-05T10:11:12.5+02:00", "1990-05-04T10:11:12.5+02:00"),
        ("0000-00-00 00:00:00", "0000-00-00 00:00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("19900505", "19900504"),
        (19900505, 19900504),
        (7430, 7429),
        (2_447_000.5, 2_446_999.5),
        (1990, 1990),
        (0, 0),
        (-1, -1),
        (20_000_000, 19_913_600),
        (-300_000_000, -300_086_400),
        (20_000_000_000, 19_913_600_000),
    ],
)
def test_date_is_another_one_unless_it_is_none(value, day):
    assert change_date(value) == day


@pytest.mark.parametrize("value", ["1990-05-05, called Bob Smith", "1990-19-45 Eve Miller", "1990-05-05 Eve"])
def test_text_that_begins_with_a_date_is_no_date(value):
    assert change_date(value).startswith("Text ")


def change_date(value):
    """Return what the rule ``date`` makes of a value, with dates that become a day earlier."""
    pseudonyms = Pseudonyms(b"key")
    pseudonyms.shift = 1
    column = Column(name="born", type="", nullable=True, required=False, is_primary_key=False)
    return pseudonyms.rewrite("members", column, ColumnRule(kind="date"))(value)


@pytest.mark.parametrize("length", [4, 5, 6, 7, 8, 14, 15, 16, 40])
def test_scanner_finds_a_pattern_at_every_place(length):
    pattern = bytes(range(65, 65 + length))
    others = [b"zz%06d" % number for number in range(1000)]
    for place in range(20):
        data = bytes(place) + pattern + bytes(place % 3)
        assert Scanner([pattern, *others]).find([data]) == {pattern}
        assert Scanner([pattern, *others]).find([data[:7], data[7:]]) == {pattern}
        assert Scanner([pattern, *others]).find([data.replace(pattern, pattern[:-1] + b"!")]) == set()


def test_scanner_finds_a_pattern_across_blocks():
    pattern = b"a secret of some length"
    for place in ((1 << 20) - 10, (1 << 20), (1 << 20) + 3):
        data = b"x" * place + pattern + b"y" * 5000
        blocks = [data[at : at + 65536] for at in range(0, len(data), 65536)]
        assert Scanner([pattern]).find(blocks) == {pattern}


def test_more_originals_than_the_limit_are_sampled_regardless_of_their_order():
    values = [f"original number {number}" for number in range(2 * MAX_ORIGINALS)]
    samples = []
    for order in (values, values[::-1], values + values[:1000]):
        originals = Originals(str.encode)
        for value in order:
            originals.add("t.c", value)
        assert originals.is_sample
        assert MAX_ORIGINALS / 4 < len(originals.columns) <= MAX_ORIGINALS
        samples.append(set(originals.columns))
    assert samples[0] == samples[1] == samples[2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ada", True),
        ("adam", False),
        ("12345", True),
        ("123456", False),
        ("12-34", True),
        ("0151-5512345", False),
        (b"\x00\x01\x02", True),
        (b"\x00\x01\x02\x03", False),
    ],
)
def test_values_that_occur_by_chance_are_not_searched(value, expected):
    assert is_too_short(value) is expected


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (b"243.193.115.102 1", False),
        (b" 43.193.115.1024", False),
        (b"ip:43.193.115.102/32", True),
        (b"43.193.115.102", True),
    ],
)
def test_address_inside_a_longer_one_is_no_hit(text, is_found):
    assert bool(Scanner([b"43.193.115.102"]).find([b"x" * 41, text, b"y" * 37])) == is_found
