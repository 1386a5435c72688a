"""``migrate new --alter``: migrations that change columns of SQLite tables without a loss."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.services.migrations.schema_diff import Difference, compare, split_schema
from tests.databases import empty_database
from tests.shapes import flashpoint_web, yaai

Answer = Callable[..., dict[str, Any]]

SHOP = """
create table makers (id integer primary key, name text not null);
create table articles (
  id integer primary key autoincrement,
  title varchar(80) not null collate nocase,
  price decimal(10, 2) default 0,  -- in cents
  sold boolean not null default false check (sold in (0, 1)),
  code text unique,
  maker integer,
  added datetime default (datetime('now')),
  unique (title, maker)
);
create table sales (id integer primary key, article integer references articles (id) on delete cascade);
create index articles_by_price on articles (price desc) where sold = 0;
create index articles_by_title on articles (lower(title));
create view cheap as select id, title from articles where price < 10;
create view cheapest as select * from cheap order by title;
create trigger sold after insert on sales begin update articles set sold = 1 where id = new.article; end;
create trigger titled after update of title on articles begin select raise(abort, 'no') where new.title = ';'; end;
create virtual table words using fts5(title, content = articles, content_rowid = id);
insert into makers values (1, 'Anna');
insert into articles (id, title, maker, code) values (1, 'Tea', 1, 'a'), (2, 'Cups', 1, 'b'), (9, 'Pot', null, null);
delete from articles where id = 9;
insert into sales (article) values (1), (2);
insert into words (words) values ('rebuild');
"""


def create_shop(path: Path, script: str = SHOP) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def read_parts(path: Path) -> Mapping[Any, object]:
    with closing(SQLiteReader(path, "shop/main")) as reader:
        return split_schema(reader.schema_reader.schema(), ["migrations", "_migrations"])


def list_differences(before: Mapping[Any, object], path: Path) -> Iterator[Difference]:
    return compare(before, read_parts(path))


@pytest.fixture
def shop(tmp_path: Path, answer: Answer) -> Path:
    path = tmp_path / "shop.db"
    (tmp_path / "own").mkdir()
    (tmp_path / "own/001_start.sql").write_text(SHOP)
    answer("--url", f"main={path}", "migrate", "up", "--migrations", str(tmp_path / "own"))
    return path


def list_created(path: Path) -> list[str]:
    return [file.name for file in (path.parent / "own").iterdir() if "change" in file.name]


def new(answer: Answer, path: Path, *words: str, status: int = 0, table: str = "articles") -> Any:
    address = ["--url", f"main={path}", "migrate"]
    result = answer(
        *address,
        "new",
        "change",
        "--alter",
        table,
        *words,
        "--migrations",
        str(path.parent / "own"),
        status=status,
    )
    return result["error"] if status else result["data"]


def apply(answer: Answer, path: Path) -> None:
    """Rehearse the migrations, and run them."""
    address = ["--url", f"main={path}", "migrate"]
    folder = ["--migrations", str(path.parent / "own")]
    rehearsal = answer(*address, "rehearse", *folder)["data"]
    assert rehearsal["rows"] == []
    assert {finding["code"] for finding in rehearsal["findings"]} <= {"renames", "drops-column", "no-down"}
    answer(*address, "up", "--no-backup", *folder)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["--type", "price=integer"], {("articles.price", "type DECIMAL(10, 2)", "type INTEGER")}),
        (["--not-null", "maker"], {("articles.maker", "null is allowed", "not null")}),
        (["--nullable", "title"], {("articles.title", "not null", "null is allowed")}),
        (["--nullable", "maker", "--default", "price=7.5"], {("articles.price", "default 0", "default 7.5")}),
        (["--default", "code=it's"], {("articles.code", "no default", "default 'it''s'")}),
        (["--default", "added=null"], {("articles.added", "default datetime('now')", "no default")}),
        (
            ["--default", "code=(hex(randomblob(4)))"],
            {("articles.code", "no default", "default hex(randomblob(4))")},
        ),
        (
            ["--add-foreign-key", "maker=makers.id"],
            {("a foreign key of articles", "", "(maker) references makers (id)")},
        ),
    ],
)  # fmt: skip
def test_rebuild_changes_only_what_was_requested(
    answer: Answer, shop: Path, words: list[str], changes: set[tuple[str, str, str]]
) -> None:
    if "maker" in words:
        create_shop(shop, "delete from articles where maker is null;")
    before, rows = read_parts(shop), query(shop, "select rowid, * from articles")
    created = new(answer, shop, *words)
    assert Path(created["path"]).name == "002_change.sql"
    apply(answer, shop)
    assert {(each.place, each.expected, each.actual) for each in list_differences(before, shop)} >= changes
    assert {each.place for each in list_differences(before, shop)} == {place for place, _, _ in changes}
    assert query(shop, "select rowid, * from articles") == rows
    assert query(shop, "select article from sales") == [(1,), (2,)]
    assert query(shop, "select seq from sqlite_sequence where name = 'articles'") == [(9,)]
    assert query(shop, "select title from words where words match 'cups'") == [("Cups",)]
    assert query(shop, "pragma integrity_check") == [("ok",)]


def test_empty_table_keeps_its_sequence(answer: Answer, shop: Path) -> None:
    create_shop(shop, "delete from sales; delete from articles;")
    new(answer, shop, "--nullable", "title")
    apply(answer, shop)
    assert query(shop, "select name, seq from sqlite_sequence") == [("articles", 9)]


def test_column_is_renamed_in_views_triggers_and_indexes_and_then_changed(answer: Answer, shop: Path) -> None:
    new(answer, shop, "--rename-column", "price=cents", "--type", "price=integer", "--default", "price=1")
    apply(answer, shop)
    assert query(shop, "select type, dflt_value from pragma_table_info('articles') where name = 'cents'") == [
        ("INTEGER", "1")
    ]
    assert query(shop, "select title from cheapest") == [("Cups",), ("Tea",)]


def test_only_renamed_column_needs_no_new_table(answer: Answer, shop: Path) -> None:
    path = Path(new(answer, shop, "--rename-column", "price=cents")["path"])
    assert "CREATE TABLE" not in path.read_text()
    apply(answer, shop)
    assert query(shop, "select cents from articles") == [(0,), (0,)]


def test_dropped_column_goes_with_its_key_and_unique_constraint(answer: Answer, shop: Path) -> None:
    create_shop(
        shop, "create table tags (a integer primary key, b text unique references makers (id), c text)"
    )
    before = read_parts(shop)
    new(answer, shop, "--drop-column", "b", table="tags")
    apply(answer, shop)
    assert {each.code for each in list_differences(before, shop)} == {
        "column-missing",
        "index-missing",
        "reference-missing",
    }


def test_foreign_key_is_dropped_and_replaced(answer: Answer, shop: Path) -> None:
    new(answer, shop, "--drop-foreign-key", "article", table="sales")
    apply(answer, shop)
    assert query(shop, "select * from pragma_foreign_key_list('sales')") == []
    new(answer, shop, "--add-foreign-key", "article=makers.id", table="sales")
    assert 'REFERENCES "makers"' in max((shop.parent / "own").iterdir()).read_text()


@pytest.mark.parametrize(
    ("script", "words", "loss"),
    [
        ("create table t (a text, b text generated always as (a || 'x'))", ["--not-null", "a"], "t.b"),
        ("create table t (a text primary key, b text) without rowid", ["--not-null", "b"], "without rowid"),
        (
            "create table p (a integer primary key); create table t (a text, b references p deferrable initially deferred)",
            ["--not-null", "a"],
            "deferred",
        ),
        ("create table t (a text not null on conflict ignore, b text)", ["--not-null", "b"], "on conflict"),
        ("create table t (a text, b text, c text, unique (a, b))", ["--drop-column", "a"], "unique (a, b)"),
        ("create table t (a integer primary key, b text)", ["--drop-column", "a"], "t.a"),
    ],
)  # fmt: skip
def test_rebuild_that_would_lose_something_is_refused(
    answer: Answer, tmp_path: Path, script: str, words: list[str], loss: str
) -> None:
    (tmp_path / "own").mkdir()
    path = create_shop(tmp_path / "shop.db", script)
    error = new(answer, path, *words, table="t", status=6)
    assert (error["code"], loss in error["message"]) == ("rebuild-loses", True), error
    assert list((tmp_path / "own").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["--drop-column", "price"], "query-failed", 1),  # an index has it
        (["--drop-column", "sold"], "query-failed", 1),  # a check has it
        (["--drop-column", "article"], "column-missing", 2),
        (["--not-null", "missing"], "column-missing", 2),
        (["--type", "price"], "value-invalid", 2),
        (["--default", "=1"], "value-invalid", 2),
        (["--add-foreign-key", "maker=makers"], "value-invalid", 2),
        (["--add-foreign-key", "maker=makers.missing"], "query-failed", 1),
        ([], "usage", 2),
    ],
)
def test_invalid_change_is_refused(
    answer: Answer, shop: Path, words: list[str], code: str, status: int
) -> None:
    assert new(answer, shop, *words, status=status)["code"] == code
    assert list_created(shop) == []


def test_column_that_a_trigger_needs_is_not_dropped(answer: Answer, shop: Path) -> None:
    error = new(answer, shop, "--drop-column", "article", table="sales", status=1)
    assert "trigger sold" in error["message"]


def test_change_without_table_is_refused_and_table_must_exist(answer: Answer, shop: Path) -> None:
    address = ["--url", f"main={shop}", "migrate", "new", "x", "--migrations", str(shop.parent / "own")]
    assert answer(*address, "--not-null", "maker", status=2)["error"]["code"] == "usage"
    assert new(answer, shop, "--not-null", "x", table="missing", status=5)["code"] == "table-missing"
    assert new(answer, shop, "--not-null", "id", table="cheap", status=2)["code"] == "not-supported"
    assert new(answer, shop, "--not-null", "title", table="words", status=2)["code"] == "not-supported"


def test_dry_run_prints_statements_and_writes_nothing(answer: Answer, shop: Path) -> None:
    data = new(answer, shop, "--not-null", "maker", "--dry-run")
    steps = data["plan"]["steps"]
    assert any(step.startswith('CREATE TABLE "articles_new_002"') for step in steps)
    assert steps[-1].startswith("CREATE TRIGGER titled")
    assert list_created(shop) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("001_first.sql", f"-- migrate:up\n{SHOP}\n-- migrate:down\nselect 1;\n"),
        ("00001_first.sql", f"-- +goose Up\n{SHOP}\n-- +goose Down\nselect 1;\n"),
        ("001_first.up.sql", SHOP),
    ],
)
def test_statements_are_in_the_up_section_of_each_layout(
    answer: Answer, shop: Path, name: str, text: str
) -> None:
    own = shop.parent / "own"
    shop.unlink()
    (own / "001_start.sql").unlink()
    (own / name).write_text(text)
    if ".up." in name:
        (own / name.replace(".up.", ".down.")).write_text("select 1;")
    answer("--url", f"main={shop}", "migrate", "up", "--migrations", str(own))
    path = Path(new(answer, shop, "--nullable", "title")["path"])
    lines = path.read_text().splitlines()
    triggers = [number for number, line in enumerate(lines) if line.startswith("CREATE TRIGGER")]
    assert ("+goose StatementBegin" in lines[triggers[0] - 1]) == ("goose" in text)
    apply(answer, shop)
    assert query(shop, "select \"notnull\" from pragma_table_info('articles') where name = 'title'") == [(0,)]


@pytest.mark.parametrize("server", ["postgresql", "mysql"])
def test_servers_refuse_with_the_statement_to_use(answer: Answer, tmp_path: Path, server: str) -> None:
    with empty_database(server, tmp_path / "unused") as database:
        database.run("create table articles (id int primary key, title text)")
        (tmp_path / "own").mkdir()
        address = [
            "--url",
            f"main={database.url}",
            "migrate",
            "new",
            "x",
            "--migrations",
            str(tmp_path / "own"),
        ]
        error = answer(*address, "--alter", "articles", "--not-null", "title", status=2)["error"]
    assert (error["code"], "ALTER TABLE" in error["hint"]) == ("not-supported", True)


@pytest.mark.slow
def test_every_table_of_the_apps_can_be_rebuilt(answer: Answer, tmp_path: Path) -> None:
    databases = {
        "flashpoint": flashpoint_web.deployed_user_db(tmp_path / "flashpoint.db"),
        **{
            f"yaai-{name}": path
            for name, path in yaai.deployed(tmp_path / "yaai").items()
            if name != "memory"
        },
    }
    for name, source in databases.items():
        home = tmp_path / f"{name}-copy"
        (home / "own").mkdir(parents=True)
        path = home / "copy.db"
        shutil.copy(source, path)
        before = read_parts(path)
        with closing(SQLiteReader(path, "a/b")) as reader:
            tables = {
                table: definition for table, definition in reader.tables().items() if not definition.is_view
            }
        virtual = [
            table
            for (table,) in query(
                path, "select name from pragma_table_list where type in ('virtual', 'shadow')"
            )
        ]
        expected = set()
        for table, definition in tables.items():
            if table in (*virtual, "migrations", "_migrations"):
                continue
            column = next(column for column in definition.columns.values() if not column.is_primary_key)
            new(answer, path, "--default", f"{column.name}=changed", table=table)
            expected.add(f"{table}.{column.name}")
        assert expected, name
        for migration in sorted(
            (home / "own").iterdir()
        ):  # each was written for the schema before the first one
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(
                    f"pragma foreign_keys = off; begin; {migration.read_text()}; commit;"
                )
        assert {each.place for each in list_differences(before, path)} == expected
        assert query(path, "pragma integrity_check") == [("ok",)]
        assert query(path, "pragma foreign_key_check") == []
