"""``migrate mark`` and ``migrate repair``: changes of the ledger without running migrations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.errors.migrations import LedgerForeignError, LedgerMissingError, MigrationMissingError
from dbctl.errors.usage import UsageError
from dbctl.services.migrations import repair as migration_repair
from dbctl.services.migrations.execution.plan import UpSelection
from dbctl.services.migrations.operations import MigrateUp
from dbctl.services.migrations.status import find_targets
from tests.databases import ComparedDatabase, empty_database
from tests.services.migrations.deployments import open_app, read_states, write_files

FILES = {f"00{number}_{name}": f"create table {name} (x int);" for number, name in enumerate("abc", 1)}


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComparedDatabase]:
    """Create an empty database."""
    with empty_database(request.param, tmp_path / "main.db") as empty:
        empty.run()
        yield empty


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "migrations", FILES)


def up(database: ComparedDatabase, folder: Path, to: str = "") -> None:
    with open_app(database) as app:
        MigrateUp(app, find_targets(app, folder=folder), UpSelection(to=to)).apply()


def mark(
    database: ComparedDatabase, folder: Path, requested: migration_repair.MarkedState, *names: str
) -> dict[str, tuple[str, str]]:
    with open_app(database) as app:
        change = migration_repair.mark(app, find_targets(app, folder=folder), names, requested)
        planned = len(change.plan().steps)
        items = change.apply(change.plan().digest).items
    assert planned >= len(items)
    return {repaired.name: (repaired.was, repaired.now) for repaired in items}


def repair(database: ComparedDatabase, folder: Path, *options: str) -> dict[str, tuple[str, str]]:
    with open_app(database) as app:
        change = migration_repair.repair(app, find_targets(app, folder=folder), options)
        return {
            repaired.name: (repaired.was, repaired.now)
            for repaired in change.apply(change.plan().digest).items
        }


def test_migration_without_a_file_is_removed_instead_of_pending(
    database: ComparedDatabase, folder: Path
) -> None:
    up(database, folder)
    (folder / "002_b.sql").unlink()
    with open_app(database) as app:
        change = migration_repair.mark(app, find_targets(app, folder=folder), ["002_b"], "pending")
        assert change.plan().steps == ["remove 002_b, which has no file"]
    assert mark(database, folder, "pending", "002_b") == {"002_b": ("missing-file", "removed")}
    assert read_states(database, folder) == {"001_a": "applied", "003_c": "applied"}


def test_marked_migration_is_not_run(database: ComparedDatabase, folder: Path) -> None:
    up(database, folder, to="1")
    assert mark(database, folder, "applied", "2", "003_c.sql") == {
        "002_b": ("pending", "applied"),
        "003_c": ("pending", "applied"),
    }
    assert set(read_states(database, folder).values()) == {"applied"}
    assert not {"b", "c"} & set(database.tables())
    assert mark(database, folder, "applied", "2") == {}


def test_mark_creates_a_missing_ledger(database: ComparedDatabase, folder: Path) -> None:
    database.run("create table a (x int)")
    with pytest.raises(LedgerMissingError):
        mark(database, folder, "pending", "1")
    assert mark(database, folder, "applied", "1") == {"001_a": ("pending", "applied")}
    up(database, folder)
    assert set(read_states(database, folder).values()) == {"applied"}


def test_migration_marked_pending_runs_again(database: ComparedDatabase, folder: Path) -> None:
    up(database, folder)
    database.run("drop table c")
    assert mark(database, folder, "pending", "003_c") == {"003_c": ("applied", "pending")}
    assert read_states(database, folder)["003_c"] == "pending"
    up(database, folder)
    assert "c" in database.tables()


def test_unknown_name_is_refused_with_a_suggestion(database: ComparedDatabase, folder: Path) -> None:
    up(database, folder)
    before = database.content()
    with pytest.raises(MigrationMissingError, match="no migration '003_d' in") as raised:
        mark(database, folder, "pending", "002_b", "003_d")
    assert "'003_c'" in raised.value.hint
    assert database.content() == before


def test_repair_accepts_a_changed_file(database: ComparedDatabase, folder: Path) -> None:
    up(database, folder)
    (folder / "002_b.sql").write_text("create table b (y int);")
    assert read_states(database, folder)["002_b"] == "changed"
    with pytest.raises(UsageError, match="repair --checksums"):
        mark(database, folder, "applied", "002_b")
    assert repair(database, folder, "checksums") == {"002_b": ("changed", "applied")}
    assert read_states(database, folder)["002_b"] == "applied"
    assert repair(database, folder, "checksums", "failed", "missing") == {}


def test_repair_missing_removes_rows_without_files(database: ComparedDatabase, folder: Path) -> None:
    up(database, folder)
    (folder / "002_b.sql").unlink()
    database.run("insert into schema_migrations (version) values ('009')")
    assert repair(database, folder, "failed", "checksums") == {}
    assert repair(database, folder, "missing") == {
        "002_b": ("missing-file", "removed"),
        "009": ("ahead", "removed"),
    }
    assert read_states(database, folder) == {"001_a": "applied", "003_c": "applied"}
    assert "b" in database.tables()


def test_repair_missing_removes_one_of_two_rows_with_the_same_number(
    database: ComparedDatabase, folder: Path
) -> None:
    up(database, folder)
    database.run("insert into schema_migrations (version) values ('2'), ('009'), ('9')")
    removed = repair(database, folder, "missing")
    assert sorted(removed.values()) == [*[("ahead", "removed")] * 2, ("missing-file", "removed")]
    assert removed.keys() - {"002", "2"} == {"009", "9"}
    assert read_states(database, folder) == {"001_a": "applied", "002_b": "applied", "003_c": "applied"}


def test_repair_missing_removes_rows_whose_versions_are_no_numbers(
    database: ComparedDatabase, folder: Path
) -> None:
    up(database, folder)
    database.run("insert into schema_migrations (version) values ('2026.1'), ('first')")
    assert repair(database, folder, "missing") == {
        "2026.1": ("ahead", "removed"),
        "first": ("missing-file", "removed"),
    }


def test_unfinished_prisma_migration_is_rolled_back_or_completed(
    database: ComparedDatabase, tmp_path: Path
) -> None:
    folder = tmp_path / "prisma"
    for number in (1, 2):
        (folder / f"2026010100000{number}_n{number}").mkdir(parents=True)
        (folder / f"2026010100000{number}_n{number}" / "migration.sql").write_text(
            f"create table n{number} (x int);"
        )
    columns = "(id varchar(36) primary key not null, checksum varchar(64) not null, finished_at {time}, migration_name varchar(255) not null, logs text, rolled_back_at {time}, started_at {time} not null default current_timestamp{more}, applied_steps_count integer not null default 0)"
    time, suffix = {
        "sqlite": ("datetime", ""),
        "postgresql": ("timestamptz", ""),
        "mysql": ("datetime(3)", "(3)"),
    }[database.engine]
    database.run(f"create table _prisma_migrations {columns.format(time=time, more=suffix)}")
    for number in (1, 2):
        database.run(
            f"insert into _prisma_migrations (id, checksum, migration_name) values ('{number}', 'x', '2026010100000{number}_n{number}')"
        )
    assert set(read_states(database, folder).values()) == {"failed"}
    first, second = read_states(database, folder)
    assert mark(database, folder, "applied", first) == {first: ("failed", "applied")}
    assert repair(database, folder, "failed") == {second: ("failed", "pending")}
    assert read_states(database, folder) == {first: "applied", second: "pending"}
    assert len(database.rows("select 1 from _prisma_migrations")) == 2
    up(database, folder)
    assert "n2" in database.tables()
    assert "n1" not in database.tables()


def test_foreign_ledger_is_not_written(database: ComparedDatabase, folder: Path) -> None:
    database.run(
        "create table a (x int)",
        "create table schema_migrations (version bigint not null primary key, dirty boolean not null)",
        "insert into schema_migrations values (1, true)",
    )
    before = database.content()
    for requested in ("applied", "pending"):
        with pytest.raises(LedgerForeignError):
            mark(database, folder, requested, "1")  # type: ignore[arg-type]
    with pytest.raises(LedgerForeignError):
        repair(database, folder, "failed")
    assert database.content() == before


def test_repair_requires_an_option(database: ComparedDatabase, folder: Path) -> None:
    with pytest.raises(UsageError, match="--checksums, --failed, --missing"):
        repair(database, folder)


@pytest.mark.parametrize("new_name", ["002_other", "004_b"])
def test_missing_migration_whose_text_a_pending_file_has_is_not_removed(
    database: ComparedDatabase, folder: Path, new_name: str
) -> None:
    up(database, folder)
    (folder / "002_b.sql").rename(folder / f"{new_name}.sql")
    with pytest.raises(UsageError, match=f"{new_name} has the text of 002_b"):
        repair(database, folder, "missing")
    assert read_states(database, folder)["002_b"] == "missing-file"
    with open_app(database) as app:
        change = migration_repair.repair(app, find_targets(app, folder=folder), ["missing"], names=["002_b"])
        change.apply(change.plan().digest)
    assert read_states(database, folder)[new_name] != "applied"
