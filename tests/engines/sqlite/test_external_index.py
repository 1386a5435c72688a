"""An index in a file of its own finds what LIKE finds, and counts only while it and the database are as they were."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import sqlite3
import stat
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.engines.contract import AnyOf, Condition, Not, Order
from dbctl.engines.contract.external_index import Sidecar
from dbctl.engines.sqlite.external_index import build
from dbctl.engines.sqlite.external_index.build import SQLiteSidecars
from dbctl.errors import (
    BusyError,
    DiskFullError,
    FileFailedError,
    NotSupportedError,
    SidecarUnsoundError,
)

COLUMNS = ["title", "also"]
TITLE = Order(("sorted", "title"), nocase=True)
KEPT = [Not(Condition("broken", "=", 1))]
TOLD = Sidecar(table="game", columns=COLUMNS, order=[TITLE], kept=KEPT)

#: Texts that an index could read otherwise than LIKE does.
HOSTILE = [
    "Straße STRASSE straſse", "\u212aelvin Kelvin", "İstanbul ıstanbul ISTANBUL", "ÀÉÎ àéî", "e\u0301te\u0301 été", "ΣΑΣ σας",
    'say "hello" AND "bye"', "a*b NEAR(x y)", "-minus ^caret {brace} (paren)", "title:colon : x", "100% sure_thing !bang",
    "😀😃😄 smile", "👩‍👩‍👧 family", "日本語の題名", "ab\0cd hidden behind", "tab\tnew\nline", "\ufffd \ufffe \uffff end",
    "aaa", "aaaa", "aa", "a", "", " ", "   ", "''' quotes ''", "back\\slash", "\u202eabc bidi", "AbC aBc",
]  # fmt: skip
#: The same as bytes that are no UTF-8.
BROKEN = [
    b"ab\xff\xfecd broken",
    b"\xc3(abc",
    b"abc\xe2\x82",
    b"\xed\xa0\x80 surrogate",
    b"ab\x80\x00cd",
    b"\xf8abcdef",
]
LETTERS = "abcABCéÉßſK\u212aİıΣσ日本😀\u0301\"*-:%_!\\ \0\ufffd'()^"


def fill(path: Path, texts: list[str | bytes | float | None], *, encoding: str = "UTF-8") -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma encoding = '{encoding}'")
        connection.execute("create table game (id text primary key, title, also text, sorted text, broken)")
        for at, text in enumerate(texts):
            value = "cast(:text as text)" if isinstance(text, bytes) else ":text"
            connection.execute(
                f"insert into game values (:id, {value}, :also, :sorted, :broken)",
                {
                    "id": f"{at:03}",
                    "text": text,
                    "also": texts[-1 - at] if isinstance(texts[-1 - at], str) else None,
                    "sorted": "" if at % 3 else f"s{at % 7}",
                    "broken": [0, 1, None, "1"][at % 4],
                },
            )
        connection.commit()
    return path


@contextmanager
def reading(path: Path):
    with closing(SQLiteSidecars(path, "app/games", timeout=0.2)) as reader:
        yield reader


def place_of(reader: SQLiteSidecars) -> Path:
    return reader.sidecar_place(None, "games")


def made(reader: SQLiteSidecars) -> Path:
    place = place_of(reader)
    assert reader.make_sidecar(TOLD, place).state == "fresh"
    return place


def literal(words: list[str]) -> list[AnyOf]:
    return [AnyOf([Condition(column, "contains", word) for column in COLUMNS]) for word in words]


def alike(reader: SQLiteSidecars, words: list[str]) -> None:
    """Show that the index answers as LIKE does: which rows, in which order, how many, page by page."""
    assert all(reader.sidecar_finds(word) for word in words)
    for order in ([TITLE], [Order(("id",), descending=True)]):
        for where in (KEPT, [], [Condition("id", ">", "004")], [*KEPT, Condition("id", ">", "004")]):
            by_like = reader.select("game", ["id"], [*literal(words), *where], order_by=order)
            assert reader.found(TOLD, words, ["id"], where, order_by=order) == by_like
            assert reader.found_count(TOLD, words, where) == len(by_like)
            part = reader.found(TOLD, words, ["id"], where, order_by=order, limit=2, offset=1)
            assert part == by_like[1:3]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = fill(
        tmp_path_factory.mktemp("games") / "g.sqlite", [*HOSTILE, *BROKEN, b"plain", 12345.5, 1234567, None]
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("insert into game values ('x', x'616263646566', 'blob', '', 0)")
        connection.commit()
    with reading(path) as reader:
        made(reader)
        yield reader


def pieces(text: str) -> list[str]:
    return [text[at : at + size] for size in (3, 5, len(text)) for at in range(max(1, len(text) - size + 1))]


def test_every_piece_of_hostile_texts_is_found_as_like_finds_it(hostile):
    words = {piece for text in HOSTILE for piece in pieces(text) + pieces(text.swapcase())}
    words |= {"abc", "def", "345", "67", "broken", "surrogate", "end", "plain", "cd hidden"}
    for word in sorted(word for word in words if hostile.sidecar_finds(word)):
        by_like = hostile.select("game", ["id"], literal([word]), order_by=[TITLE])
        assert hostile.found(TOLD, [word], ["id"], order_by=[TITLE]) == by_like, ascii(word)
        assert hostile.found_count(TOLD, [word]) == len(by_like), ascii(word)


@given(st.lists(st.text(LETTERS.replace("\0", ""), min_size=3, max_size=6), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_it_finds_what_like_finds(hostile, words):
    alike(hostile, words)


@given(
    st.lists(st.text(LETTERS, max_size=8), min_size=1, max_size=12),
    st.data(),
    st.sampled_from(["UTF-8", "UTF-16le"]),
)
@settings(max_examples=25, deadline=None)
def test_it_finds_what_like_finds_whatever_the_texts_are(tmp_path_factory, texts, data, encoding):
    with reading(fill(tmp_path_factory.mktemp("any") / "g.sqlite", texts, encoding=encoding)) as reader:
        made(reader)
        among = [piece for text in texts for piece in pieces(text) if reader.sidecar_finds(piece)]
        for _ in range(3):
            word = data.draw(st.sampled_from(among) if among else st.text("abc", min_size=3, max_size=4))
            alike(reader, [word])
        assert reader.sidecar_faults(TOLD, rows=100) == []


@pytest.mark.parametrize("word", ["", "a", "ab", "a\0b", "ab\ud800", "x" * 6_000])
def test_what_is_too_short_or_no_text_is_not_looked_for(hostile, word):
    assert not hostile.sidecar_finds(word)


def test_without_words_every_row_counts_as_found(hostile):
    every = hostile.select("game", ["id"], KEPT, order_by=[TITLE])
    assert hostile.found(TOLD, [], ["id"], KEPT, order_by=[TITLE]) == every
    assert hostile.found_count(TOLD, [], KEPT) == len(every)


# Whether it counts ----------------------------------------------------------------------------------------------


@pytest.fixture
def games(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return fill(folder / "g.sqlite", ["Alpha Game", "Beta Game", "Gamma", "Delta game"])


def change(path: Path, sql: str = "insert into game values ('new', 'New Game', '', '', 0)") -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()


def state_of(path: Path, place: Path) -> tuple[str, str]:
    with reading(path) as reader:
        found = reader.sidecar(TOLD, [place])
        return found.state, found.reason


def test_it_says_where_it_is_how_large_and_since_when(games):
    with reading(games) as reader:
        place = place_of(reader)
        missing = reader.sidecar(TOLD, [place])
        assert (missing.path, missing.state, missing.bytes) == (place, "missing", None)
        made(reader)
        found = reader.sidecar(TOLD, [place.with_name("nowhere"), place])
        assert (found.path, found.state, found.bytes) == (place, "fresh", place.stat().st_size)
        assert found.made_at is not None
    assert sorted(one.name for one in games.parent.iterdir()) == ["g.sqlite", "g.sqlite.dbctl-search-games"]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into game values ('new', 'New Game', '', '', 0)",
        "update game set title = 'Alpha Gime' where title = 'Alpha Game'",
        "create index other on game (also)",
    ],
)
def test_it_is_stale_once_the_database_was_changed_also_where_size_and_time_are_the_same(games, sql):
    with reading(games) as reader:
        place = made(reader)
    before = games.stat()
    change(games, sql)
    os.utime(games, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state_of(games, place)[0] == "stale"


def test_it_is_stale_where_it_was_made_of_another_file_or_for_another_profile(games, tmp_path):
    with reading(games) as reader:
        place = made(reader)
        for other in (
            Sidecar(table="game", columns=["title"], order=[TITLE], kept=KEPT),
            Sidecar(table="game", columns=COLUMNS, order=[], kept=KEPT),
            Sidecar(table="game", columns=COLUMNS, order=[TITLE], kept=[]),
        ):
            assert reader.sidecar(other, [place]).state == "stale"
        assert reader.sidecar(TOLD, [place]).state == "fresh"
    other_file = fill(tmp_path / "other.sqlite", ["Another"])
    shutil.copy2(place, tmp_path / "other.sqlite.dbctl-search-games")
    assert state_of(other_file, tmp_path / "other.sqlite.dbctl-search-games")[0] == "stale"


def test_a_copy_of_both_that_keeps_the_times_is_as_good(games, tmp_path):
    with reading(games) as reader:
        place = made(reader)
    shutil.copytree(games.parent, tmp_path / "copy")
    assert state_of(tmp_path / "copy" / games.name, tmp_path / "copy" / place.name)[0] == "fresh"


def _cut(place):
    os.truncate(place, place.stat().st_size // 2)


def _flip(place):
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 0xFF
    place.write_bytes(data)


def _longer(place):
    with place.open("ab") as file:
        file.write(b"\0" * 4096)


def _foreign(place):
    place.unlink()
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript("create table texts (a); create table places (b); create table made (c)")


def _fts(place):
    place.unlink()
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript(
            "create virtual table texts using fts5(c0, c1); create table made (what, told)"
        )


def _trigger(place):
    keep = place.stat()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("create trigger t after insert on made begin delete from places; end")
        connection.commit()
    os.utime(place, ns=(keep.st_atime_ns, keep.st_mtime_ns))


def _odd(place):
    keep = place.stat()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("update made set told = 1e300 where what = 'made_at'")
        connection.commit()
    os.utime(place, ns=(keep.st_atime_ns, keep.st_mtime_ns))


def _bare(place):
    keep = place.stat()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("delete from made")
        connection.commit()
    os.utime(place, ns=(keep.st_atime_ns, keep.st_mtime_ns))


def _link(place):
    real = place.rename(place.with_name("elsewhere"))
    place.symlink_to(real)


def _hard_link(place):
    os.link(place, place.with_name("elsewhere"))


def _folder(place):
    place.unlink()
    place.mkdir()


def _pipe(place):
    place.unlink()
    os.mkfifo(place)


def _empty(place):
    place.write_bytes(b"")


def _open_to_others(place):
    place.chmod(0o666)


def _others(place):
    os.chown(place, 12345, -1)


WRECKS = [
    _cut,
    _flip,
    _longer,
    _foreign,
    _fts,
    _trigger,
    _odd,
    _bare,
    _link,
    _hard_link,
    _folder,
    _pipe,
    _empty,
    _open_to_others,
]


@pytest.mark.parametrize("wreck", WRECKS)
def test_what_is_not_as_it_was_made_is_never_used(games, wreck):
    with reading(games) as reader:
        place = made(reader)
        wreck(place)
        found = reader.sidecar(TOLD, [place])
        assert found.state == "broken"
        assert found.reason
        with pytest.raises(SidecarUnsoundError):
            reader.found(TOLD, ["game"], ["id"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_somebody_else_is_never_used(games):
    with reading(games) as reader:
        place = made(reader)
        _others(place)
        assert reader.sidecar(TOLD, [place]).state == "broken"


@pytest.mark.parametrize("wreck", [_cut, _flip, _foreign, _link, _open_to_others])
def test_what_is_wrecked_while_it_is_used_answers_nothing(games, wreck):
    with reading(games) as reader:
        place = made(reader)
        assert reader.found_count(TOLD, ["game"]) == 4
        wreck(place)
        with pytest.raises(SidecarUnsoundError):
            reader.found_count(TOLD, ["game"])


@pytest.mark.parametrize("way", ["replaced", "written"])
def test_a_database_that_changes_while_it_is_searched_is_not_answered_for_by_its_index(games, tmp_path, way):
    with reading(games) as reader:
        place = made(reader)
        if way == "replaced":
            fill(tmp_path / "new.sqlite", ["Another Game"]).rename(games)
        else:
            change(games)
        with pytest.raises(SidecarUnsoundError):
            reader.found(TOLD, ["game"], ["id"])
        assert reader.sidecar(TOLD, [place]).state == "stale"


def test_a_database_that_changes_while_its_index_is_looked_at_leaves_that_stale_not_broken(games):
    with reading(games) as reader:
        place = made(reader)

        def write(sql):
            if "attach" in sql and not written:
                written.append(sql)
                change(games)

        written = []
        reader._current().set_trace_callback(write)
        found = reader.sidecar(TOLD, [place])
        assert written
        assert (found.state, found.reason) == ("stale", f"{games.name} was changed meanwhile")


def test_changes_that_stand_beside_the_database_are_not_passed_over(games):
    with closing(sqlite3.connect(games)) as app:
        app.execute("pragma journal_mode = wal")
        with reading(games) as reader:
            place = place_of(reader)
        app.execute("insert into game values ('new', 'New Game', '', '', 0)")
        app.commit()
        with reading(games) as reader:
            with pytest.raises(NotSupportedError, match="stands beside"):
                reader.make_sidecar(TOLD, place)
            assert not place.exists()
    with reading(games) as reader:
        made(reader)
    with closing(sqlite3.connect(games)) as app:
        app.execute("insert into game values ('newer', 'Newer Game', '', '', 0)")
        app.commit()
        assert state_of(games, place)[0] == "stale"


def test_rows_that_do_not_hold_the_words_are_noticed(games):
    """As where somebody who may write both files lets the index tell something else."""
    with reading(games) as reader:
        place = made(reader)
    keep = place.stat()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("update places set number = 1 + number % 4")
        connection.commit()
    os.utime(place, ns=(keep.st_atime_ns, keep.st_mtime_ns))
    with reading(games) as reader:
        assert reader.sidecar(TOLD, [place]).state == "fresh"
        with pytest.raises(SidecarUnsoundError, match="do not hold"):
            reader.found(TOLD, ["alpha"], ["id"])
        assert {one.kind for one in reader.sidecar_faults(TOLD, rows=100)} == {"stale"}


# Making it ------------------------------------------------------------------------------------------------------


def test_it_may_be_read_by_those_who_may_read_the_database(games):
    for mode, wanted in ((0o600, 0o600), (0o640, 0o640), (0o666, 0o644), (0o444, 0o644)):
        games.chmod(mode)
        with reading(games) as reader:
            assert stat.S_IMODE(made(reader).stat().st_mode) == wanted


def test_a_failure_leaves_the_old_one_and_no_other_file(games, monkeypatch):
    with reading(games) as reader:
        place = made(reader)
        old = place.read_bytes()
        change(games)
        monkeypatch.setattr(build, "PROVEN", 0)  # it divides by it, after the file was filled
        with pytest.raises(ZeroDivisionError):
            reader.make_sidecar(TOLD, place)
        assert reader.count("game") == 5
    assert place.read_bytes() == old
    assert sorted(one.name for one in games.parent.iterdir()) == [games.name, place.name]


def test_a_file_that_may_not_grow_leaves_nothing(games, start_limited):
    done = start_limited(games)
    assert done in (DiskFullError.code, FileFailedError.code)
    assert [one.name for one in games.parent.iterdir()] == [games.name]


@pytest.fixture
def start_limited():
    def run(path):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
        try:
            with reading(path) as reader, pytest.raises((DiskFullError, FileFailedError)) as failed:
                reader.make_sidecar(TOLD, place_of(reader))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return failed.value.code

    return run


def test_two_do_not_make_it_at_once_and_what_was_left_is_swept(games):
    left = games.with_name(f".{games.name}.dbctl-search-games.dbctl-0123abcd.partial")
    left.write_bytes(b"half")
    other = os.open(games.parent, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with reading(games) as reader, pytest.raises(BusyError):
            made(reader)
        assert left.exists()
    finally:
        os.close(other)
    with reading(games) as reader:
        made(reader)
    assert not left.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "create table keyed (id text primary key, title, also, sorted, broken) without rowid",
        "create view keyed as select * from game",
    ],
)
def test_a_table_without_numbers_of_rows_has_none(games, sql):
    change(games, sql)
    told = Sidecar(table="keyed", columns=COLUMNS, order=[], kept=[])
    with reading(games) as reader:
        found = reader.sidecar(told, [place_of(reader)])
        assert (found.state, found.reason) == ("missing", "keyed does not number its rows")
        with pytest.raises(NotSupportedError):
            reader.make_sidecar(told, place_of(reader))


def test_columns_that_are_called_as_the_numbers_of_rows_are_no_hindrance(tmp_path):
    path = tmp_path / "g.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table game (rowid text, _rowid_ text, title, also, sorted, broken)")
        connection.executemany(
            "insert into game values ('7', '7', ?, 'x', '', 0)", [("Some Game",), ("Other",)]
        )
        connection.commit()
    with reading(path) as reader:
        made(reader)
        assert reader.found(TOLD, ["game"], ["title"], KEPT, order_by=[TITLE]) == [("Some Game",)]


def test_it_is_compared_with_one_that_is_made_anew(games):
    with reading(games) as reader:
        place = made(reader)
        assert not reader.sidecar_differs(TOLD)
    keep = place.stat()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("insert into texts (rowid, c0, c1) values (77, 'something', 'else')")
        connection.commit()
    os.utime(place, ns=(keep.st_atime_ns, keep.st_mtime_ns))
    with reading(games) as reader:
        assert reader.sidecar(TOLD, [place]).state == "fresh"
        assert reader.sidecar_faults(TOLD, rows=100) == []
        assert reader.sidecar_differs(TOLD)


def test_it_is_dropped_with_what_was_left_of_others(games):
    with reading(games) as reader:
        place = made(reader)
        left = place.with_name(f".{place.name}.dbctl-0.partial")
        left.touch()
        reader.drop_sidecar(place)
        reader.drop_sidecar(place)
        assert [one.name for one in games.parent.iterdir()] == [games.name]
        assert reader.count("game") == 4
