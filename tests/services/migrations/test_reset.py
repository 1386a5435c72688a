"""``migrate reset``: drop everything and run every migration again, after confirmation."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.connection import ConstraintError
from dbctl.errors.migrations import MigrationFailedError, ResetRefusedError
from dbctl.errors.usage import PlanChangedError, UsageError
from dbctl.services.backup.repository import Repository
from dbctl.services.migrations.operations import ResetDatabase
from dbctl.services.migrations.status import find_targets
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


def reset(desk, *, confirmed=None):
    with desk.open_app() as app:
        return ResetDatabase(app, find_targets(app)).apply(confirmed).items


def test_reset_drops_everything_and_runs_every_migration(desk):
    tables, content = desk.tables(), desk.base.content()
    desk.base.run("insert into books values (9, 1)", *MORE[desk.engine])
    with desk.open_app() as app:
        plan = ResetDatabase(app, find_targets(app)).plan()
    assert plan.destructive
    assert plan.rows["books"] == 6
    assert [step for step in plan.steps if step.startswith("run ")] == ["run 001_authors", "run 002_books"]
    result = reset(desk, confirmed=plan.digest)
    assert [migration.name for migration in result] == ["001_authors", "002_books"]
    assert desk.tables() == tables
    assert desk.states() == ["applied", "applied"]
    assert {name: rows for name, rows in desk.base.content().items() if name != "schema_migrations"} == {
        name: rows for name, rows in content.items() if name != "schema_migrations"
    }
    reset(desk)
    assert desk.tables() == tables


def test_safety_backup_of_reset_can_be_restored(desk):
    desk.base.run("insert into books values (9, 1)")
    before = desk.base.content()
    (first, *_) = reset(desk)
    with desk.open_app() as app:
        assert Repository(app).find(first.safety_backup).kind == "migration"
    desk.dbctl("restore", "apply", first.safety_backup, "--yes")
    assert desk.base.content() == before


def test_reset_requires_confirmation_of_the_current_plan(desk):
    before = desk.base.content()
    assert desk.dbctl("migrate", "reset", status=6)["code"] == "confirmation-missing"
    assert desk.dbctl("migrate", "reset", "--dry-run")["plan"]["destructive"] is True
    assert desk.base.content() == before
    with desk.open_app() as app:
        confirmed = ResetDatabase(app, find_targets(app)).plan().digest
    desk.base.run("insert into books values (9, 1)")
    with pytest.raises(PlanChangedError):
        reset(desk, confirmed=confirmed)


def test_a_protected_app_is_never_reset(file):
    config = file.folder / "dbctl.toml"
    config.write_text(config.read_text().replace("[apps.desk]\n", "[apps.desk]\nprotected = true\n"))
    before = file.base.content()
    with file.open_app() as app, pytest.raises(ResetRefusedError):
        ResetDatabase(app, find_targets(app))
    assert file.dbctl("migrate", "reset", "--yes", "--confirm", "desk", status=6)["code"] == "reset-refused"
    assert file.base.content() == before


def test_reset_drops_nothing_without_a_valid_migration(file):
    before = file.base.content()
    for path in (file.folder / "migrations").iterdir():
        path.unlink()
    with file.open_app() as app, pytest.raises(UsageError):
        ResetDatabase(app, find_targets(app)).apply()
    file.write({"001_broken": "create table 'never closed (id integer);\n"})
    assert file.dbctl("migrate", "reset", "--yes", status=2)["code"] == "migration-invalid"
    assert file.base.content() == before


def test_failing_reset_names_the_safety_backup(file):
    file.write({"003_fails": "insert into nowhere values (1);\n"})
    with pytest.raises(MigrationFailedError) as failed:
        reset(file)
    assert "restore apply" in failed.value.hint
    assert file.states() == ["applied", "applied", "pending"]


def test_backup_of_a_reset_whose_first_migration_fails_remains(desk):
    desk.base.run("insert into books values (9, 1)")
    before = desk.base.content()
    desk.write({"001_authors": "insert into nowhere values (1);\n"})
    desk.dbctl("migrate", "repair", "--checksums")
    recorded = desk.base.content()["schema_migrations"]
    with pytest.raises(MigrationFailedError) as failed:
        reset(desk)
    backup = failed.value.hint.partition("restore apply ")[2].split()[0]
    desk.dbctl("restore", "apply", backup, "--yes")
    assert desk.base.content() == before | {"schema_migrations": recorded}


def test_reset_creates_a_missing_file(tmp_path):
    from dbctl.services.app.session import open_app

    folder = deployments.write_files(tmp_path / "migrations", deployments.INITIAL_FILES)
    selection = Selection(profile="plain", urls=[f"main={tmp_path}/new.db"])
    with open_app(selection, timeout=5) as app:
        result = ResetDatabase(app, find_targets(app, folder=folder)).apply().items
    assert [migration.name for migration in result] == ["001_authors", "002_books"]


def test_reset_refuses_objects_that_another_schema_uses(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        desk.base.run("create schema beside_it", "create view beside_it.seen as select id from books")
        before = desk.base.content()
        with pytest.raises(ConstraintError):
            reset(desk)
        assert desk.base.content() == before
        desk.base.run("drop schema beside_it cascade")
        assert len(reset(desk)) == 2


def test_reset_retains_the_variant_and_undo_names_the_backup(tmp_path, answer):
    """A database of a variant that is not the default is rebuilt with the migrations of this variant."""
    config = tmp_path / "dbctl.toml"
    config.write_text(
        '[apps.site]\nprofile = "flashpoint-web"\n[apps.site.databases]\nuser = "user.db"\n'
        '[apps.site.backup]\nrepository = "backups"\n'
    )

    def read_schema():
        with closing(sqlite3.connect(tmp_path / "user.db")) as db:
            return db.execute(
                "select name, sql from sqlite_master where sql is not null order by 1"
            ).fetchall()

    command = ["--config", str(config), "--db", "user"]
    for variant in ("document", "deployed"):
        (tmp_path / "user.db").unlink(missing_ok=True)
        answer(*command, "migrate", "up", "--variant", variant)
        schema = read_schema()
        answer(*command, "migrate", "reset", "--yes")
        assert read_schema() == schema
    error = answer(*command, "restore", "undo", status=5)["error"]
    (newest, *_) = answer(*command, "backup", "list")["data"]["items"]
    assert (newest["kind"], f"restore apply {newest['id']}" in error["hint"]) == ("migration", True)
    answer(*command, "restore", "apply", newest["id"], "--yes")
