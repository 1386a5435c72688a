"""The external index finds the same rows as LIKE, and is used only if neither it nor the database changed."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import sqlite3
import stat
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines.contract.database import AnyOf, Condition, Not, Order, Query
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.errors.connection import BusyError, DiskFullError, ExternalIndexInvalidError, FileFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.external_index import build
from dbctl.extensions.external_index.build import ExternalIndexes
from dbctl.extensions.external_index.contract import ExternalIndexSpec

COLUMNS = ["title", "also"]
TITLE = Order(("sorted", "title"), nocase=True)
CONDITIONS = [Not(Condition("broken", "=", 1))]
SPEC = ExternalIndexSpec(table="game", columns=COLUMNS, order=[TITLE], stored_conditions=CONDITIONS)

#: Texts that an index might match differently from LIKE.
HOSTILE = [
    "Straße STRASSE straſse", "\u212aelvin Kelvin", "İstanbul ıstanbul ISTANBUL", "ÀÉÎ àéî", "e\u0301te\u0301 été", "ΣΑΣ σας",
    'say "hello" AND "bye"', "a*b NEAR(x y)", "-minus ^caret {brace} (paren)", "title:colon : x", "100% sure_thing !bang",
    "😀😃😄 smile", "👩‍👩‍👧 family", "日本語の題名", "ab\0cd hidden behind", "tab\tnew\nline", "\ufffd \ufffe \uffff end",
    "aaa", "aaaa", "aa", "a", "", " ", "   ", "''' quotes ''", "back\\slash", "\u202eabc bidi", "AbC aBc",
]  # fmt: skip
#: Texts that are not valid UTF-8.
BROKEN = [
    b"ab\xff\xfecd broken",
    b"\xc3(abc",
    b"abc\xe2\x82",
    b"\xed\xa0\x80 surrogate",
    b"ab\x80\x00cd",
    b"\xf8abcdef",
]
LETTERS = "abcABCéÉßſK\u212aİıΣσ日本😀\u0301\"*-:%_!\\ \0\ufffd'()^"


def create_database(path: Path, texts: list[str | bytes | float | None], *, encoding: str = "UTF-8") -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma encoding = '{encoding}'")
        connection.execute("create table game (id text primary key, title, also text, sorted text, broken)")
        for index, text in enumerate(texts):
            value = "cast(:text as text)" if isinstance(text, bytes) else ":text"
            connection.execute(
                f"insert into game values (:id, {value}, :also, :sorted, :broken)",
                {
                    "id": f"{index:03}",
                    "text": text,
                    "also": texts[-1 - index] if isinstance(texts[-1 - index], str) else None,
                    "sorted": "" if index % 3 else f"s{index % 7}",
                    "broken": [0, 1, None, "1"][index % 4],
                },
            )
        connection.commit()
    return path


@contextmanager
def open_reader(path: Path):
    with closing(SQLiteReader(path, "app/games", timeout=0.2)) as reader:
        yield reader


def index_path(reader: SQLiteReader) -> Path:
    return reader.extension_part(ExternalIndexes).external_index_path(None, "games")


def create_index(reader: SQLiteReader) -> Path:
    path = index_path(reader)
    assert reader.extension_part(ExternalIndexes).create_external_index(SPEC, path).state == "fresh"
    return path


def like_conditions(words: list[str]) -> list[AnyOf]:
    return [AnyOf([Condition(column, "contains", word) for column in COLUMNS]) for word in words]


def assert_same_as_like(reader: SQLiteReader, words: list[str]) -> None:
    """Assert that the index returns the same rows, order, count and pages as LIKE."""
    assert all(reader.extension_part(ExternalIndexes).can_find_word(word) for word in words)
    for order in ([TITLE], [Order(("id",), descending=True)]):
        for where in (
            CONDITIONS,
            [],
            [Condition("id", ">", "004")],
            [*CONDITIONS, Condition("id", ">", "004")],
        ):
            by_like = reader.select("game", ["id"], [*like_conditions(words), *where], order_by=order)
            assert (
                reader.extension_part(ExternalIndexes).search_external(
                    SPEC, words, Query(SPEC.table, ["id"], where, order_by=order)
                )
                == by_like
            )
            assert reader.extension_part(ExternalIndexes).count_external(SPEC, words, where) == len(by_like)
            page = reader.extension_part(ExternalIndexes).search_external(
                SPEC, words, Query(SPEC.table, ["id"], where, order_by=order, limit=2, offset=1)
            )
            assert page == by_like[1:3]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = create_database(
        tmp_path_factory.mktemp("games") / "g.sqlite", [*HOSTILE, *BROKEN, b"plain", 12345.5, 1234567, None]
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("insert into game values ('x', x'616263646566', 'blob', '', 0)")
        connection.commit()
    with open_reader(path) as reader:
        create_index(reader)
        yield reader


def split_text(text: str) -> list[str]:
    return [
        text[start : start + size]
        for size in (3, 5, len(text))
        for start in range(max(1, len(text) - size + 1))
    ]


@pytest.mark.slow
def test_index_and_like_find_the_same_hostile_texts(hostile):
    words = {piece for text in HOSTILE for piece in split_text(text) + split_text(text.swapcase())}
    words |= {"abc", "def", "345", "67", "broken", "surrogate", "end", "plain", "cd hidden"}
    for word in sorted(word for word in words if hostile.extension_part(ExternalIndexes).can_find_word(word)):
        by_like = hostile.select("game", ["id"], like_conditions([word]), order_by=[TITLE])
        assert (
            hostile.extension_part(ExternalIndexes).search_external(
                SPEC, [word], Query(SPEC.table, ["id"], order_by=[TITLE])
            )
            == by_like
        ), ascii(word)
        assert hostile.extension_part(ExternalIndexes).count_external(SPEC, [word]) == len(by_like), ascii(
            word
        )


@given(st.lists(st.text(LETTERS.replace("\0", ""), min_size=3, max_size=6), min_size=1, max_size=3))
def test_index_and_like_find_the_same_words(hostile, words):
    assert_same_as_like(hostile, words)


@pytest.mark.slow
@given(
    st.lists(st.text(LETTERS, max_size=8), min_size=1, max_size=12),
    st.data(),
    st.sampled_from(["UTF-8", "UTF-16le"]),
)
def test_index_and_like_find_the_same_words_in_any_text(tmp_path_factory, texts, data, encoding):
    with open_reader(
        create_database(tmp_path_factory.mktemp("any") / "g.sqlite", texts, encoding=encoding)
    ) as reader:
        create_index(reader)
        words = [
            piece
            for text in texts
            for piece in split_text(text)
            if reader.extension_part(ExternalIndexes).can_find_word(piece)
        ]
        for _ in range(3):
            word = data.draw(st.sampled_from(words) if words else st.text("abc", min_size=3, max_size=4))
            assert_same_as_like(reader, [word])
        assert reader.extension_part(ExternalIndexes).find_external_index_faults(SPEC, rows=100) == []


@pytest.mark.parametrize("word", ["", "a", "ab", "a\0b", "ab\ud800", "x" * 6_000])
def test_short_or_invalid_words_are_not_searched(hostile, word):
    assert not hostile.extension_part(ExternalIndexes).can_find_word(word)


def test_search_without_words_returns_all_rows(hostile):
    all_rows = hostile.select("game", ["id"], CONDITIONS, order_by=[TITLE])
    assert (
        hostile.extension_part(ExternalIndexes).search_external(
            SPEC, [], Query(SPEC.table, ["id"], CONDITIONS, order_by=[TITLE])
        )
        == all_rows
    )
    assert hostile.extension_part(ExternalIndexes).count_external(SPEC, [], CONDITIONS) == len(all_rows)


# State ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def games(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return create_database(folder / "g.sqlite", ["Alpha Game", "Beta Game", "Gamma", "Delta game"])


def run_sql(path: Path, sql: str = "insert into game values ('new', 'New Game', '', '', 0)") -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()


def read_state(path: Path, index_file: Path) -> tuple[str, str]:
    with open_reader(path) as reader:
        state = reader.extension_part(ExternalIndexes).open_external_index(SPEC, [index_file])
        return state.state, state.reason


def test_state_has_path_size_and_creation_time(games):
    with open_reader(games) as reader:
        path = index_path(reader)
        missing = reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path])
        assert (missing.path, missing.state, missing.bytes) == (path, "missing", None)
        create_index(reader)
        state = reader.extension_part(ExternalIndexes).open_external_index(
            SPEC, [path.with_name("nowhere"), path]
        )
        assert (state.path, state.state, state.bytes) == (path, "fresh", path.stat().st_size)
        assert state.created_at is not None
    assert sorted(path.name for path in games.parent.iterdir()) == ["g.sqlite", "g.sqlite.dbctl-search-games"]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into game values ('new', 'New Game', '', '', 0)",
        "update game set title = 'Alpha Gime' where title = 'Alpha Game'",
        "create index other on game (also)",
    ],
)
def test_index_is_stale_after_any_change_of_the_database(games, sql):
    with open_reader(games) as reader:
        path = create_index(reader)
    initial = games.stat()
    run_sql(games, sql)
    os.utime(games, ns=(initial.st_atime_ns, initial.st_mtime_ns))
    assert read_state(games, path)[0] == "stale"


def test_index_of_another_file_or_profile_is_stale(games, tmp_path):
    with open_reader(games) as reader:
        path = create_index(reader)
        for other in (
            ExternalIndexSpec(table="game", columns=["title"], order=[TITLE], stored_conditions=CONDITIONS),
            ExternalIndexSpec(table="game", columns=COLUMNS, order=[], stored_conditions=CONDITIONS),
            ExternalIndexSpec(table="game", columns=COLUMNS, order=[TITLE], stored_conditions=[]),
        ):
            assert reader.extension_part(ExternalIndexes).open_external_index(other, [path]).state == "stale"
        assert reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path]).state == "fresh"
    other_file = create_database(tmp_path / "other.sqlite", ["Another"])
    shutil.copy2(path, tmp_path / "other.sqlite.dbctl-search-games")
    assert read_state(other_file, tmp_path / "other.sqlite.dbctl-search-games")[0] == "stale"


def test_copy_with_equal_times_is_fresh(games, tmp_path):
    with open_reader(games) as reader:
        path = create_index(reader)
    shutil.copytree(games.parent, tmp_path / "copy")
    assert read_state(tmp_path / "copy" / games.name, tmp_path / "copy" / path.name)[0] == "fresh"


def _truncate_to_half(path):
    os.truncate(path, path.stat().st_size // 2)


def _flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _append_page(path):
    with path.open("ab") as file:
        file.write(b"\0" * 4096)


def _replace_with_tables(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("create table texts (a); create table places (b); create table meta (c)")


def _replace_with_fts(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "create virtual table texts using fts5(c0, c1); create table meta (key, value)"
        )


def _add_trigger(path):
    status = path.stat()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create trigger t after insert on meta begin delete from places; end")
        connection.commit()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _set_odd_time(path):
    status = path.stat()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update meta set value = 1e300 where key = 'created_at'")
        connection.commit()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _delete_metadata(path):
    status = path.stat()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("delete from meta")
        connection.commit()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace_with_link(path):
    real = path.rename(path.with_name("elsewhere"))
    path.symlink_to(real)


def _add_hard_link(path):
    os.link(path, path.with_name("elsewhere"))


def _replace_with_folder(path):
    path.unlink()
    path.mkdir()


def _replace_with_pipe(path):
    path.unlink()
    os.mkfifo(path)


def _truncate_to_zero(path):
    path.write_bytes(b"")


def _make_writable_for_all(path):
    path.chmod(0o666)


def _change_owner(path):
    os.chown(path, 12345, -1)


DAMAGES = [
    _truncate_to_half,
    _flip_byte,
    _append_page,
    _replace_with_tables,
    _replace_with_fts,
    _add_trigger,
    _set_odd_time,
    _delete_metadata,
    _replace_with_link,
    _add_hard_link,
    _replace_with_folder,
    _replace_with_pipe,
    _truncate_to_zero,
    _make_writable_for_all,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_modified_index_is_never_used(games, damage):
    with open_reader(games) as reader:
        path = create_index(reader)
        damage(path)
        state = reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path])
        assert state.state == "broken"
        assert state.reason
        with pytest.raises(ExternalIndexInvalidError):
            reader.extension_part(ExternalIndexes).search_external(SPEC, ["game"], Query(SPEC.table, ["id"]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_index_of_another_owner_is_never_used(games):
    with open_reader(games) as reader:
        path = create_index(reader)
        _change_owner(path)
        assert reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path]).state == "broken"


@pytest.mark.parametrize(
    "damage",
    [_truncate_to_half, _flip_byte, _replace_with_tables, _replace_with_link, _make_writable_for_all],
)
def test_index_damaged_during_use_returns_nothing(games, damage):
    with open_reader(games) as reader:
        path = create_index(reader)
        assert reader.extension_part(ExternalIndexes).count_external(SPEC, ["game"]) == 4
        damage(path)
        with pytest.raises(ExternalIndexInvalidError):
            reader.extension_part(ExternalIndexes).count_external(SPEC, ["game"])


@pytest.mark.parametrize("change", ["replaced", "written"])
def test_index_is_not_used_after_a_change_of_the_database(games, tmp_path, change):
    with open_reader(games) as reader:
        path = create_index(reader)
        if change == "replaced":
            create_database(tmp_path / "new.sqlite", ["Another Game"]).rename(games)
        else:
            run_sql(games)
        with pytest.raises(ExternalIndexInvalidError):
            reader.extension_part(ExternalIndexes).search_external(SPEC, ["game"], Query(SPEC.table, ["id"]))
        assert reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path]).state == "stale"


def test_change_during_inspection_makes_index_stale_not_broken(games):
    with open_reader(games) as reader:
        path = create_index(reader)

        def write_on_attach(sql):
            if "attach" in sql and not statements:
                statements.append(sql)
                run_sql(games)

        statements = []
        reader.connection.driver.set_trace_callback(write_on_attach)
        state = reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path])
        assert statements
        assert (state.state, state.reason) == ("stale", f"{games.name} has changed since then")


def test_changes_in_the_wal_make_the_index_stale(games):
    with closing(sqlite3.connect(games)) as app:
        app.execute("pragma journal_mode = wal")
        with open_reader(games) as reader:
            path = index_path(reader)
        app.execute("insert into game values ('new', 'New Game', '', '', 0)")
        app.commit()
        with open_reader(games) as reader:
            with pytest.raises(NotSupportedError, match="not yet in"):
                reader.extension_part(ExternalIndexes).create_external_index(SPEC, path)
            assert not path.exists()
    with open_reader(games) as reader:
        create_index(reader)
    with closing(sqlite3.connect(games)) as app:
        app.execute("insert into game values ('newer', 'Newer Game', '', '', 0)")
        app.commit()
        assert read_state(games, path)[0] == "stale"


def test_index_that_returns_rows_without_the_words_is_refused(games):
    """A user with write access to both files may have changed the index."""
    with open_reader(games) as reader:
        path = create_index(reader)
    status = path.stat()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update places set number = 1 + number % 4")
        connection.commit()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with open_reader(games) as reader:
        assert reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path]).state == "fresh"
        with pytest.raises(ExternalIndexInvalidError, match="without the words"):
            reader.extension_part(ExternalIndexes).search_external(SPEC, ["alpha"], Query(SPEC.table, ["id"]))
        assert {
            fault.kind
            for fault in reader.extension_part(ExternalIndexes).find_external_index_faults(SPEC, rows=100)
        } == {"stale"}


# Creation -------------------------------------------------------------------------------------------------------


def test_index_is_readable_by_the_readers_of_the_database(games):
    for mode, expected in ((0o600, 0o600), (0o640, 0o640), (0o666, 0o644), (0o444, 0o644)):
        games.chmod(mode)
        with open_reader(games) as reader:
            assert stat.S_IMODE(create_index(reader).stat().st_mode) == expected


def test_failed_creation_keeps_the_old_index_and_leaves_no_other_file(games, monkeypatch):
    with open_reader(games) as reader:
        path = create_index(reader)
        old = path.read_bytes()
        run_sql(games)
        monkeypatch.setattr(build, "VERIFIED_ROWS", 0)  # division by zero after the index was written
        with pytest.raises(ZeroDivisionError):
            reader.extension_part(ExternalIndexes).create_external_index(SPEC, path)
        assert reader.count("game") == 5
    assert path.read_bytes() == old
    assert sorted(path.name for path in games.parent.iterdir()) == [games.name, path.name]


def test_file_size_limit_leaves_no_file(games, create_index_with_size_limit):
    code = create_index_with_size_limit(games)
    assert code in (DiskFullError.code, FileFailedError.code)
    assert [path.name for path in games.parent.iterdir()] == [games.name]


@pytest.fixture
def create_index_with_size_limit(monkeypatch):
    def run(path):
        initial = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the limit would truncate it
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, initial[1]))
        try:
            with open_reader(path) as reader, pytest.raises((DiskFullError, FileFailedError)) as caught:
                reader.extension_part(ExternalIndexes).create_external_index(SPEC, index_path(reader))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, initial)
        return caught.value.code

    return run


def test_creation_is_exclusive_and_removes_leftovers(games):
    leftover = games.with_name(f".{games.name}.dbctl-search-games.dbctl-0123abcd.partial")
    leftover.write_bytes(b"half")
    directory_fd = os.open(games.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory_fd, fcntl.LOCK_EX)
        with open_reader(games) as reader, pytest.raises(BusyError):
            create_index(reader)
        assert leftover.exists()
    finally:
        os.close(directory_fd)
    with open_reader(games) as reader:
        create_index(reader)
    assert not leftover.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "create table keyed (id text primary key, title, also, sorted, broken) without rowid",
        "create view keyed as select * from game",
    ],
)
def test_table_without_rowids_has_no_index(games, sql):
    run_sql(games, sql)
    spec = ExternalIndexSpec(table="keyed", columns=COLUMNS, order=[], stored_conditions=[])
    with open_reader(games) as reader:
        state = reader.extension_part(ExternalIndexes).open_external_index(spec, [index_path(reader)])
        assert (state.state, state.reason) == ("missing", "keyed has no rowids")
        with pytest.raises(NotSupportedError):
            reader.extension_part(ExternalIndexes).create_external_index(spec, index_path(reader))


def test_columns_named_like_the_rowid_are_allowed(tmp_path):
    path = tmp_path / "g.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table game (rowid text, _rowid_ text, title, also, sorted, broken)")
        connection.executemany(
            "insert into game values ('7', '7', ?, 'x', '', 0)", [("Some Game",), ("Other",)]
        )
        connection.commit()
    with open_reader(path) as reader:
        create_index(reader)
        assert reader.extension_part(ExternalIndexes).search_external(
            SPEC, ["game"], Query(SPEC.table, ["title"], CONDITIONS, order_by=[TITLE])
        ) == [("Some Game",)]


def test_difference_from_a_rebuilt_index_is_detected(games):
    with open_reader(games) as reader:
        path = create_index(reader)
        assert not reader.extension_part(ExternalIndexes).external_index_differs(SPEC)
    status = path.stat()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("insert into texts (rowid, c0, c1) values (77, 'something', 'else')")
        connection.commit()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with open_reader(games) as reader:
        assert reader.extension_part(ExternalIndexes).open_external_index(SPEC, [path]).state == "fresh"
        assert reader.extension_part(ExternalIndexes).find_external_index_faults(SPEC, rows=100) == []
        assert reader.extension_part(ExternalIndexes).external_index_differs(SPEC)


def test_drop_removes_index_and_leftovers(games):
    with open_reader(games) as reader:
        path = create_index(reader)
        leftover = path.with_name(f".{path.name}.dbctl-0.partial")
        leftover.touch()
        reader.extension_part(ExternalIndexes).drop_external_index(path)
        reader.extension_part(ExternalIndexes).drop_external_index(path)
        assert [path.name for path in games.parent.iterdir()] == [games.name]
        assert reader.count("game") == 4
