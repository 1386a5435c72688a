"""``migrate mark`` and ``migrate repair``: what the ledger says afterwards, and that no migration was run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.errors import LedgerForeignError, LedgerMissingError, MigrationMissingError, UsageError
from dbctl.services.migrations import repair as migration_mend
from dbctl.services.migrations.up import Upgrade
from tests.databases import Kept, nothing_yet
from tests.services.migrations.deployments import bare, states, written

FILES = {f"00{number}_{name}": f"create table {name} (x int);" for number, name in enumerate("abc", 1)}


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """An empty database."""
    with nothing_yet(request.param, tmp_path / "main.db") as empty:
        empty.run()
        yield empty


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "migrations", FILES)


def up(place: Kept, folder: Path, to: str = "") -> None:
    with bare(place) as app:
        Upgrade(app, given=folder, to=to).apply()


def mark(place: Kept, folder: Path, wanted: migration_mend.Wanted, *names: str) -> dict[str, tuple[str, str]]:
    with bare(place) as app:
        change = migration_mend.mark(app, names, wanted, given=folder)
        planned = len(change.plan().steps)
        items = change.apply(change.plan().digest).items
    assert planned >= len(items)
    return {one.name: (one.was, one.now) for one in items}


def repair(place: Kept, folder: Path, *words: str) -> dict[str, tuple[str, str]]:
    with bare(place) as app:
        change = migration_mend.repair(app, words, given=folder)
        return {one.name: (one.was, one.now) for one in change.apply(change.plan().digest).items}


def test_what_was_done_by_hand_is_marked_and_not_run(place: Kept, folder: Path) -> None:
    up(place, folder, to="1")
    assert mark(place, folder, "applied", "2", "003_c.sql") == {
        "002_b": ("pending", "applied"),
        "003_c": ("pending", "applied"),
    }
    assert set(states(place, folder).values()) == {"applied"}
    assert not {"b", "c"} & set(place.tables())
    assert mark(place, folder, "applied", "2") == {}


def test_marking_makes_the_ledger_where_there_is_none(place: Kept, folder: Path) -> None:
    place.run("create table a (x int)")
    with pytest.raises(LedgerMissingError):
        mark(place, folder, "pending", "1")
    assert mark(place, folder, "applied", "1") == {"001_a": ("pending", "applied")}
    up(place, folder)
    assert set(states(place, folder).values()) == {"applied"}


def test_what_is_marked_pending_is_run_again(place: Kept, folder: Path) -> None:
    up(place, folder)
    place.run("drop table c")
    assert mark(place, folder, "pending", "003_c") == {"003_c": ("applied", "pending")}
    assert states(place, folder)["003_c"] == "pending"
    up(place, folder)
    assert "c" in place.tables()


def test_a_name_that_nobody_knows_is_refused_with_one_that_is_near(place: Kept, folder: Path) -> None:
    up(place, folder)
    before = place.content()
    with pytest.raises(MigrationMissingError, match="has no migration '003_d'") as raised:
        mark(place, folder, "pending", "002_b", "003_d")
    assert "Did you mean 003_c?" in raised.value.hint
    assert place.content() == before


def test_a_text_that_changed_on_purpose_is_taken_as_it_is(place: Kept, folder: Path) -> None:
    up(place, folder)
    (folder / "002_b.sql").write_text("create table b (y int);")
    assert states(place, folder)["002_b"] == "changed"
    with pytest.raises(UsageError, match="repair --checksums"):
        mark(place, folder, "applied", "002_b")
    assert repair(place, folder, "checksums") == {"002_b": ("changed", "applied")}
    assert states(place, folder)["002_b"] == "applied"
    assert repair(place, folder, "checksums", "failed", "missing") == {}


def test_rows_whose_files_are_gone_are_forgotten_on_request_only(place: Kept, folder: Path) -> None:
    up(place, folder)
    (folder / "002_b.sql").unlink()
    place.run("insert into schema_migrations (version) values ('009')")
    assert repair(place, folder, "failed", "checksums") == {}
    assert repair(place, folder, "missing") == {
        "002_b": ("missing-file", "forgotten"),
        "009": ("ahead", "forgotten"),
    }
    assert states(place, folder) == {"001_a": "applied", "003_c": "applied"}
    assert "b" in place.tables()


def test_a_migration_that_prismas_runner_left_unfinished_is_rolled_back_or_completed(
    place: Kept, tmp_path: Path
) -> None:
    folder = tmp_path / "prisma"
    for number in (1, 2):
        (folder / f"2026010100000{number}_n{number}").mkdir(parents=True)
        (folder / f"2026010100000{number}_n{number}" / "migration.sql").write_text(
            f"create table n{number} (x int);"
        )
    columns = "(id varchar(36) primary key not null, checksum varchar(64) not null, finished_at {time}, migration_name varchar(255) not null, logs text, rolled_back_at {time}, started_at {time} not null default current_timestamp{more}, applied_steps_count integer not null default 0)"
    time, more = {
        "sqlite": ("datetime", ""),
        "postgresql": ("timestamptz", ""),
        "mysql": ("datetime(3)", "(3)"),
    }[place.engine]
    place.run(f"create table _prisma_migrations {columns.format(time=time, more=more)}")
    for number in (1, 2):
        place.run(
            f"insert into _prisma_migrations (id, checksum, migration_name) values ('{number}', 'x', '2026010100000{number}_n{number}')"
        )
    assert set(states(place, folder).values()) == {"failed"}
    first, second = states(place, folder)
    assert mark(place, folder, "applied", first) == {first: ("failed", "applied")}
    assert repair(place, folder, "failed") == {second: ("failed", "pending")}
    assert states(place, folder) == {first: "applied", second: "pending"}
    assert len(place.rows("select 1 from _prisma_migrations")) == 2
    up(place, folder)
    assert "n2" in place.tables()
    assert "n1" not in place.tables()


def test_another_runners_ledger_is_not_written(place: Kept, folder: Path) -> None:
    place.run(
        "create table a (x int)",
        "create table schema_migrations (version bigint not null primary key, dirty boolean not null)",
        "insert into schema_migrations values (1, true)",
    )
    before = place.content()
    for wanted in ("applied", "pending"):
        with pytest.raises(LedgerForeignError):
            mark(place, folder, wanted, "1")  # type: ignore[arg-type]
    with pytest.raises(LedgerForeignError):
        repair(place, folder, "failed")
    assert place.content() == before


def test_it_has_to_be_said_what_to_repair(place: Kept, folder: Path) -> None:
    with pytest.raises(UsageError, match="--checksums, --failed, --missing"):
        repair(place, folder)
