"""Sections of migration files: markers, directives and text that is similar to a marker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dbctl.engines.registry import load_engine
from dbctl.errors.migrations import MigrationInvalidError
from dbctl.profiles.model.databases import Format
from dbctl.services.migrations.files import loader
from dbctl.services.migrations.files.parser import Sections, find_section_markers, parse_sections

ENGINES = ["sqlite", "postgresql", "mysql"]
#: By format: the markers of the up and the down section.
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
    def cut(content: str, layout: Format = "up-down") -> Sections:
        return parse_sections(content, layout, load_engine(engine).script_dialect)

    return cut


def split_statements(text: str, engine: str) -> list[str]:
    return [sql for _, sql in load_engine(engine).script_dialect.split(text)]


@pytest.mark.parametrize(("layout", "up", "down"), MARKERS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sections_contain_their_statements_with_line_numbers(
    cut: Callable[..., Sections], engine: str, layout: Format, up: str, down: str, end: str
) -> None:
    lines = ["\ufeff-- Purpose: notes.", up, "create table a (x int);", "", f"  {down}", "drop table a;", ""]
    for file_layout in (layout, "auto"):
        sections = cut(end.join(lines), file_layout)
        assert sections.down is not None
        assert load_engine(engine).script_dialect.split(sections.up.text) == [(3, "create table a (x int);")]
        assert load_engine(engine).script_dialect.split(sections.down.text) == [(6, "drop table a;")]


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
def test_text_similar_to_a_marker_is_no_marker(cut: Callable[..., Sections], decoy: str) -> None:
    sections = cut(f"-- Up\n{decoy}\n")
    assert sections.down is None
    assert decoy in sections.up.text


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
    sections = parse_sections(
        f"-- Up\n{body}\n-- Down\ndrop table a;\n", "up-down", load_engine(engine).script_dialect
    )
    assert split_statements(sections.up.text, engine) == [body]
    assert sections.down is not None
    assert split_statements(sections.down.text, engine) == ["drop table a;"]


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_other_line_ends_in_a_text_divide_no_section(
    cut: Callable[..., Sections], engine: str, sign: str
) -> None:
    up = [f"insert into t values ('a{sign}b');", "insert into t values ('second');"]
    sections = cut("\n".join(["-- Up", *up, "-- Down", "delete from t;", ""]))
    assert split_statements(sections.up.text, engine) == up
    assert sections.down is not None
    assert split_statements(sections.down.text, engine) == ["delete from t;"]


@pytest.mark.parametrize(
    "content",
    ["-- Up\rcreate table a (x int);\ndrop table b;\n", "create table a (x int);\r-- Up\rdrop table a;\r"],
)
def test_marker_before_a_carriage_return_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="carriage return"):
        parse_sections(content, "up-down", load_engine("postgresql").script_dialect)


def test_statement_without_semicolon_ends_at_the_next_marker(
    cut: Callable[..., Sections], engine: str
) -> None:
    sections = cut("-- Up\ncreate table a (x int)\n-- Down\ndrop table a\n")
    assert sections.down is not None
    assert (split_statements(sections.up.text, engine), split_statements(sections.down.text, engine)) == (
        ["create table a (x int);"],
        ["drop table a;"],
    )


def test_file_without_markers_is_an_up_section_if_the_format_allows_it(cut: Callable[..., Sections]) -> None:
    for layout in ("up-down", "auto", "numbered", "prisma"):
        assert cut("create table a (x int);", layout).up.text == "create table a (x int);"
    for layout in ("dbmate", "goose"):
        with pytest.raises(ValueError, match="it has no line that begins the up section"):
            cut("create table a (x int);", layout)


def test_numbered_files_have_no_markers(cut: Callable[..., Sections], engine: str) -> None:
    text = "-- Up\ncreate table a (x int);\n-- Down\ndrop table a;\n"
    assert split_statements(cut(text, "numbered").up.text, engine) == [
        "create table a (x int);",
        "drop table a;",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-- Down\nselect 1;\n-- Up\nselect 2;", "line 1: the down section comes before the up section"),
        ("-- Up\nselect 1;\n-- Up\nselect 2;", "line 3: second up section"),
        ("-- Up\n-- Down\n-- Down\n", "line 3: second down section"),
        (
            "select 1;\n-- Up\nselect 2;",
            "a statement above line 2, where the up section begins, would not run",
        ),
        (
            "-- Up\n-- dbctl: no-transactions\nselect 1;",
            "line 2: unknown directive -- dbctl: no-transactions",
        ),
        ("-- dbctl:\nselect 1;", "line 1: unknown directive -- dbctl: …"),
    ],
)
def test_invalid_markers_are_refused_with_their_line(
    cut: Callable[..., Sections], text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        cut(text)


def test_markers_of_two_runners_in_one_file_are_refused(cut: Callable[..., Sections]) -> None:
    with pytest.raises(ValueError, match="it has markers of several formats: dbmate, goose"):
        cut("-- migrate:up\nselect 1;\n-- +goose Down\nselect 2;", "auto")


def test_goose_environment_variables_are_refused(cut: Callable[..., Sections]) -> None:
    with pytest.raises(ValueError, match="line 2: dbctl does not substitute environment variables"):
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
def test_section_can_run_outside_a_transaction(
    cut: Callable[..., Sections], text: str, up: bool, down: bool
) -> None:
    sections = cut(text, "auto")
    assert sections.down is not None
    assert (sections.up.outside_transaction, sections.down.outside_transaction) == (up, down)
    assert (sections.up.allows_data_loss, sections.down.allows_data_loss) == (
        False,
        "allow-data-loss" in text,
    )


def test_new_file_uses_the_markers_of_the_newest_file(engine: str) -> None:
    for layout, up, down in MARKERS:
        markers = find_section_markers(
            f"{up}\nselect 1;\n{down}\n", "auto", load_engine(engine).script_dialect
        )
        assert [marker.lower() for marker in markers] == [up.lower(), down.lower()], layout
    assert find_section_markers("", "auto", load_engine(engine).script_dialect) == (
        "-- migrate:up",
        "-- migrate:down",
    )
    assert find_section_markers("select 1;", "auto", load_engine(engine).script_dialect) == ("", "")
    assert find_section_markers("", "numbered", load_engine(engine).script_dialect) == ("", "")


def test_paired_and_prisma_files_have_both_directions(tmp_path: Path) -> None:
    pairs, prisma = tmp_path / "pairs", tmp_path / "prisma"
    pairs.mkdir()
    (pairs / "1_first.up.sql").write_text("create table a (x int);")
    (pairs / "1_first.down.sql").write_text("drop table a;")
    (pairs / "3_lonely.down.sql").write_text("drop table b;")
    migration = prisma / "20260101000000_first"
    migration.mkdir(parents=True)
    (migration / "migration.sql").write_text("create table a (x int);")
    (migration / "down.sql").write_text("drop table a;")
    for folder, kind, ignored in ((pairs, "pairs", ["3_lonely.down.sql"]), (prisma, "prisma", [])):
        loaded = loader.read_folder(folder, is_custom=True)
        (file,) = loaded.files.values()
        assert (loaded.format, loaded.ignored, file.description) == (kind, ignored, "first")
        down = file.parse_down(load_engine("sqlite").script_dialect)
        assert down is not None
        assert (file.parse_up(load_engine("sqlite").script_dialect).statements, down.statements) == (
            [(1, "create table a (x int);")],
            [(1, "drop table a;")],
        )


def test_down_section_without_statements_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "001_a.sql").write_text("-- Up\nselect 1;\n-- Down\n-- Nothing can be taken back.\n")
    (file,) = loader.read_folder(tmp_path, is_custom=True, format="up-down").files.values()
    assert file.parse_down(load_engine("sqlite").script_dialect) is None


def test_down_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_text("select 1;")
    (tmp_path / "1_a.down.sql").write_bytes(b"select\n'\xff';")
    (file,) = loader.read_folder(tmp_path, is_custom=True).files.values()
    with pytest.raises(MigrationInvalidError, match=r"1_a\.down\.sql: line 2 is not UTF-8"):
        file.parse_down(load_engine("sqlite").script_dialect)
