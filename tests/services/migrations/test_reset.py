"""``migrate reset``: everything dropped and every migration run again, and only where that is meant."""

from __future__ import annotations

import pytest

from dbctl.config import Selection
from dbctl.errors import (
    ConstraintError,
    MigrationFailedError,
    PlanChangedError,
    ResetRefusedError,
    UsageError,
)
from dbctl.services.app import app as apps
from dbctl.services.backup.repository import Repository
from dbctl.services.migrations.reset import Reset
from tests.services.migrations import deployments

MORE = {
    "sqlite": [
        "create view seen as select id from books",
        "create virtual table texts using fts5(body)",
        "create trigger kept after delete on books begin select 1; end",
    ],
    "postgresql": [
        "create view seen as select id from books",
        "create type mood as enum ('good', 'bad')",
        "create sequence numbers",
        "create function one() returns integer language sql as 'select 1'",
    ],
    "mysql": [
        "create view seen as select id from books",
        "create procedure nothing() select 1",
        "create table `odd ``name` (id int primary key)",
    ],
}


@pytest.fixture(params=deployments.PLACES)
def desk(request, tmp_path):
    with deployments.settled(request.param, tmp_path / "desk") as made:
        made.write(deployments.FIRST)
        made.up()
        yield made


@pytest.fixture
def file(tmp_path):
    with deployments.settled("sqlite", tmp_path / "file") as made:
        made.write(deployments.FIRST)
        made.up()
        yield made


def reset(desk, *, seen=None):
    with desk.opened() as app:
        return Reset(app).apply(seen).items


def test_everything_is_dropped_and_every_migration_runs_again(desk):
    tables, content = desk.tables(), desk.base.content()
    desk.base.run("insert into books values (9, 1)", *MORE[desk.engine])
    with desk.opened() as app:
        plan = Reset(app).plan()
    assert plan.destructive
    assert plan.rows["books"] == 6
    assert [step for step in plan.steps if step.startswith("run ")] == ["run 001_authors", "run 002_books"]
    done = reset(desk, seen=plan.digest)
    assert [migration.name for migration in done] == ["001_authors", "002_books"]
    assert desk.tables() == tables
    assert desk.states() == ["applied", "applied"]
    assert {name: rows for name, rows in desk.base.content().items() if name != "schema_migrations"} == {
        name: rows for name, rows in content.items() if name != "schema_migrations"
    }
    reset(desk)
    assert desk.tables() == tables


def test_what_was_there_is_kept_and_comes_back(desk):
    desk.base.run("insert into books values (9, 1)")
    before = desk.base.content()
    (first, *_) = reset(desk)
    with desk.opened() as app:
        assert Repository(app).find(first.safety_backup).kind == "migration"
    desk.dbctl("restore", "apply", first.safety_backup, "--yes")
    assert desk.base.content() == before


def test_it_asks_first_and_no_plan_changes_anything(desk):
    before = desk.base.content()
    assert desk.dbctl("migrate", "reset", status=6)["code"] == "confirmation-missing"
    assert desk.dbctl("migrate", "reset", "--dry-run")["plan"]["destructive"] is True
    assert desk.base.content() == before
    with desk.opened() as app:
        seen = Reset(app).plan().digest
    desk.base.run("insert into books values (9, 1)")
    with pytest.raises(PlanChangedError):
        reset(desk, seen=seen)


def test_a_protected_app_is_never_reset(file):
    config = file.folder / "dbctl.toml"
    config.write_text(config.read_text().replace("[apps.desk]\n", "[apps.desk]\nprotected = true\n"))
    before = file.base.content()
    with file.opened() as app, pytest.raises(ResetRefusedError):
        Reset(app)
    assert file.dbctl("migrate", "reset", "--yes", "--confirm", "desk", status=6)["code"] == "reset-refused"
    assert file.base.content() == before


def test_nothing_is_dropped_where_no_migration_could_run(file):
    before = file.base.content()
    for path in (file.folder / "migrations").iterdir():
        path.unlink()
    with file.opened() as app, pytest.raises(UsageError):
        Reset(app).apply()
    file.write({"001_broken": "create table 'never closed (id integer);\n"})
    assert file.dbctl("migrate", "reset", "--yes", status=2)["code"] == "migration-invalid"
    assert file.base.content() == before


def test_a_migration_that_fails_names_the_backup_of_what_was_there(file):
    file.write({"003_fails": "insert into nowhere values (1);\n"})
    with pytest.raises(MigrationFailedError) as failed:
        reset(file)
    assert "restore apply" in failed.value.hint
    assert file.states() == ["applied", "applied", "pending"]


def test_a_missing_file_is_made(tmp_path):
    folder = deployments.written(tmp_path / "migrations", deployments.FIRST)
    selection = Selection(profile="plain", urls=[f"main={tmp_path}/new.db"])
    with apps.opened(selection, timeout=5) as app:
        done = Reset(app, folder=folder).apply().items
    assert [migration.name for migration in done] == ["001_authors", "002_books"]


def test_what_another_schema_depends_on_is_not_dropped(tmp_path):
    with deployments.settled("postgresql", tmp_path / "desk") as desk:
        desk.write(deployments.FIRST)
        desk.up()
        desk.base.run("create schema beside_it", "create view beside_it.seen as select id from books")
        before = desk.base.content()
        with pytest.raises(ConstraintError):
            reset(desk)
        assert desk.base.content() == before
        desk.base.run("drop schema beside_it cascade")
        assert len(reset(desk)) == 2
