"""Sections of files of migrations: which lines begin a way, and which only look like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbctl.engines.registry import language
from dbctl.errors import MigrationInvalidError
from dbctl.profiles.model import Format
from dbctl.services.migrations.files import loader
from dbctl.services.migrations.files.parser import Sections, beginnings, sections

ENGINES = ["sqlite", "postgresql", "mysql"]
#: Of each format: the marker of a way up, and of a way down.
MARKERS: list[tuple[Format, str, str]] = [
    ("up-down", "-- Up", "-- DOWN"),
    ("dbmate", "-- migrate:up", "-- migrate:down"),
    ("goose", "-- +goose Up", "-- +goose Down"),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cut(engine: str) -> Callable[..., Sections]:
    def cut(text: str, layout: Format = "up-down") -> Sections:
        return sections(text, layout, language(engine))

    return cut


def told(text: str, engine: str) -> list[str]:
    return [sql for _, sql in language(engine).split(text)]


@pytest.mark.parametrize(("layout", "up", "down"), MARKERS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_each_way_holds_its_own_statements_and_every_line_keeps_its_number(
    cut: Callable[..., Sections], engine: str, layout: Format, up: str, down: str, end: str
) -> None:
    lines = ["\ufeff-- Purpose: notes.", up, "create table a (x int);", "", f"  {down}", "drop table a;", ""]
    for known in (layout, "found"):
        found = cut(end.join(lines), known)
        assert found.down is not None
        assert language(engine).split(found.up.text) == [(3, "create table a (x int);")]
        assert language(engine).split(found.down.text) == [(6, "drop table a;")]


@pytest.mark.parametrize(
    "decoy",
    [
        "insert into a values ('\n-- Down\n');",
        "/* so it goes\n-- Down\n*/ select 1;",
        "select 1; -- Down",
        "create table b (\n-- Down\nx int);",
        "-- Downwards is the way\nselect 1;",
        "-- Down: not yet\nselect 1;",
        "--  Take the table\n-- down again by hand\nselect 1;",
    ],
)
def test_what_only_looks_like_a_marker_is_none(cut: Callable[..., Sections], decoy: str) -> None:
    found = cut(f"-- Up\n{decoy}\n")
    assert found.down is None
    assert decoy in found.up.text


@pytest.mark.parametrize(
    ("engine", "body"),
    [
        (
            "sqlite",
            "create trigger t after insert on a begin\n-- Down\nupdate a set x = case x when 1 then 2 else 3 end;\nend;",
        ),
        (
            "postgresql",
            "create function f() returns int language plpgsql as $$ begin\n-- Down\nreturn 1; end $$;",
        ),
        ("postgresql", "create function f() returns int begin atomic\n-- Down\nselect 1; end;"),
        ("mysql", "create trigger t before insert on a for each row begin\n-- Down\nset new.x = 1; end;"),
    ],
)
def test_a_comment_in_a_body_is_no_marker(engine: str, body: str) -> None:
    found = sections(f"-- Up\n{body}\n-- Down\ndrop table a;\n", "up-down", language(engine))
    assert told(found.up.text, engine) == [body]
    assert found.down is not None
    assert told(found.down.text, engine) == ["drop table a;"]


def test_a_statement_without_its_semicolon_ends_where_the_other_way_begins(
    cut: Callable[..., Sections], engine: str
) -> None:
    found = cut("-- Up\ncreate table a (x int)\n-- Down\ndrop table a\n")
    assert found.down is not None
    assert (told(found.up.text, engine), told(found.down.text, engine)) == (
        ["create table a (x int);"],
        ["drop table a;"],
    )


def test_a_file_without_markers_is_all_the_way_up_where_the_format_lets_it(
    cut: Callable[..., Sections],
) -> None:
    for layout in ("up-down", "found", "numbered", "prisma"):
        assert cut("create table a (x int);", layout).up.text == "create table a (x int);"
    for layout in ("dbmate", "goose"):
        with pytest.raises(ValueError, match="it has no line that begins the way up"):
            cut("create table a (x int);", layout)


def test_a_file_that_is_run_whole_has_no_markers(cut: Callable[..., Sections], engine: str) -> None:
    text = "-- Up\ncreate table a (x int);\n-- Down\ndrop table a;\n"
    assert told(cut(text, "numbered").up.text, engine) == ["create table a (x int);", "drop table a;"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-- Down\nselect 1;\n-- Up\nselect 2;", "line 1: the way down begins before the way up"),
        ("-- Up\nselect 1;\n-- Up\nselect 2;", "line 3: the way up begins a second time"),
        ("-- Up\n-- Down\n-- Down\n", "line 3: the way down begins a second time"),
        (
            "select 1;\n-- Up\nselect 2;",
            "a statement above line 2, where the way up begins, would not be run",
        ),
        ("-- Up\n-- dbctl: no-transactions\nselect 1;", "line 2: -- dbctl: no-transactions is not known"),
        ("-- dbctl:\nselect 1;", "line 1: -- dbctl: … is not known"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(
    cut: Callable[..., Sections], text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        cut(text)


def test_markers_of_two_runners_in_one_file_are_refused(cut: Callable[..., Sections]) -> None:
    with pytest.raises(ValueError, match="it has markers of dbmate and of goose"):
        cut("-- migrate:up\nselect 1;\n-- +goose Down\nselect 2;", "found")


def test_variables_that_goose_would_fill_in_are_refused(cut: Callable[..., Sections]) -> None:
    with pytest.raises(ValueError, match="line 2: goose would fill in variables"):
        cut("-- +goose Up\n-- +goose ENVSUB ON\nselect 1;", "goose")


@pytest.mark.parametrize(
    ("text", "up", "down"),
    [
        ("-- migrate:up transaction:false\nselect 1;\n-- migrate:down\nselect 2;", True, False),
        ("-- migrate:up\nselect 1;\n-- migrate:down transaction:false\nselect 2;", False, True),
        ("-- +goose NO TRANSACTION\n-- +goose Up\nselect 1;\n-- +goose Down\nselect 2;", True, True),
        ("-- Up\n-- dbctl: no-transaction\nselect 1;\n-- Down\nselect 2;", True, False),
        ("-- dbctl: no-transaction\n-- Up\nselect 1;\n-- Down\nselect 2;", True, True),
        ("-- Up\nselect 1;\n-- Down\n-- dbctl: allow-data-loss, no-transaction\nselect 2;", False, True),
    ],
)
def test_a_way_may_ask_to_run_outside_a_transaction(
    cut: Callable[..., Sections], text: str, up: bool, down: bool
) -> None:
    found = cut(text, "found")
    assert found.down is not None
    assert (found.up.outside, found.down.outside) == (up, down)
    assert (found.up.loses_rows, found.down.loses_rows) == (False, "allow-data-loss" in text)


def test_a_new_file_begins_as_the_newest_of_its_folder_does(engine: str) -> None:
    for layout, up, down in MARKERS:
        known = beginnings(f"{up}\nselect 1;\n{down}\n", "found", language(engine))
        assert [one.lower() for one in known] == [up.lower(), down.lower()], layout
    assert beginnings("", "found", language(engine)) == ("-- migrate:up", "-- migrate:down")
    assert beginnings("select 1;", "found", language(engine)) == ("", "")
    assert beginnings("", "numbered", language(engine)) == ("", "")


def test_files_in_pairs_and_folders_with_a_way_down_have_both_ways(tmp_path: Path) -> None:
    pairs, prisma = tmp_path / "pairs", tmp_path / "prisma"
    pairs.mkdir()
    (pairs / "1_first.up.sql").write_text("create table a (x int);")
    (pairs / "1_first.down.sql").write_text("drop table a;")
    (pairs / "3_lonely.down.sql").write_text("drop table b;")
    one = prisma / "20260101000000_first"
    one.mkdir(parents=True)
    (one / "migration.sql").write_text("create table a (x int);")
    (one / "down.sql").write_text("drop table a;")
    for folder, kind, ignored in ((pairs, "pairs", ["3_lonely.down.sql"]), (prisma, "prisma", [])):
        found = loader.read(folder, own=True)
        (file,) = found.files.values()
        assert (found.format, found.ignored, file.words) == (kind, ignored, "first")
        down = file.down(language("sqlite"))
        assert down is not None
        assert (file.up(language("sqlite")).statements, down.statements) == (
            [(1, "create table a (x int);")],
            [(1, "drop table a;")],
        )


def test_a_way_down_that_holds_no_statement_is_none(tmp_path: Path) -> None:
    (tmp_path / "001_a.sql").write_text("-- Up\nselect 1;\n-- Down\n-- Nothing can be taken back.\n")
    (file,) = loader.read(tmp_path, own=True, format="up-down").files.values()
    assert file.down(language("sqlite")) is None


def test_a_way_down_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_text("select 1;")
    (tmp_path / "1_a.down.sql").write_bytes(b"select\n'\xff';")
    (file,) = loader.read(tmp_path, own=True).files.values()
    with pytest.raises(MigrationInvalidError, match=r"1_a\.down\.sql: line 2 is not UTF-8"):
        file.down(language("sqlite"))
