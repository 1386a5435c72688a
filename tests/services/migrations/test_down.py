"""``migrate down``: order, atomicity, safety backups and refusals."""

import re

import pytest

from dbctl.errors.migrations import (
    DownAllRefusedError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationIrreversibleError,
    MigrationMissingError,
    MigrationPartialError,
    MigrationPartiallyRevertedError,
)
from dbctl.errors.usage import PlanChangedError, UsageError
from dbctl.services.backup.repository import Repository
from dbctl.services.migrations.execution.plan import DownSelection
from dbctl.services.migrations.operations import MigrateDown
from dbctl.services.migrations.status import find_targets
from tests.services.migrations import deployments

FILES = {
    "001_authors": "-- migrate:up\ncreate table authors (id integer not null primary key);\ninsert into authors values (1), (2);\n"
    "-- migrate:down\ndrop table authors;\n",
    "002_books": "-- migrate:up\ncreate table books (id integer not null primary key);\n-- migrate:down\ndrop table books;\n",
    "003_notes": "-- migrate:up\ncreate table notes (id integer);\nalter table books add note integer;\n"
    "-- migrate:down\nalter table books drop column note;\ndrop table notes;\n",
}


@pytest.fixture(params=deployments.ENGINES)
def desk(request, tmp_path):
    with deployments.create_desk(request.param, tmp_path / "desk") as created:
        created.write(FILES)
        created.up()
        yield created


@pytest.fixture
def file(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "file") as created:
        created.write(FILES)
        created.up()
        yield created


def down(desk, *, confirmed=None, **selection):
    with desk.open_app() as app:
        return MigrateDown(app, find_targets(app), DownSelection(**selection)).apply(confirmed).items


def test_down_reverts_the_last_migration_and_its_ledger_row(desk):
    desk.base.run("insert into books values (1, 7), (2, 8)", "insert into notes values (1)")
    (result,) = down(desk)
    assert (result.name, result.statements, result.rows_lost) == ("003_notes", 2, {"notes": 1})
    assert desk.states() == ["applied", "applied", "pending"]
    assert (desk.count("books"), "notes" in desk.tables()) == (2, False)
    with desk.open_app() as app:
        assert Repository(app).find(result.safety_backup).kind == "migration"
    desk.up()
    assert desk.states() == ["applied"] * 3


@pytest.mark.parametrize("version", ["3", "0003"])
def test_row_with_other_leading_zeros_than_its_file_is_reverted(desk, version):
    desk.base.run(f"update schema_migrations set version = '{version}' where version = '003'")
    assert desk.states() == ["applied"] * 3
    assert [migration.name for migration in down(desk)] == ["003_notes"]
    assert desk.states() == ["applied", "applied", "pending"]


def test_up_down_and_up_again_make_the_same_schema(desk):
    before = desk.tables()
    assert [migration.name for migration in down(desk, all_migrations=True)] == [
        "003_notes",
        "002_books",
        "001_authors",
    ]
    assert desk.tables() == {"schema_migrations"}
    assert desk.states() == ["pending"] * 3
    desk.up()
    assert desk.tables() == before


def test_safety_backup_of_down_can_be_restored(desk):
    desk.base.run("insert into books values (1, 7)")
    before = desk.base.content()
    (result, *_) = down(desk, to="001")
    desk.dbctl("restore", "apply", result.safety_backup, "--yes")
    assert desk.base.content() == before


def test_restore_undo_ignores_safety_backups_of_migrations(file):
    file.dbctl("backup", "create")
    file.base.run("insert into books values (1, 7)")
    before = file.base.content()
    file.dbctl("restore", "apply", "latest", "--yes")
    assert down(file)[0].safety_backup
    file.dbctl("restore", "undo", "--yes")
    assert file.base.content() == before


def test_failure_after_a_success_keeps_and_names_the_backup(file):
    file.write(
        {"002_books": FILES["002_books"].replace("drop table books", "drop table books;\ndrop table nosuch")}
    )
    file.dbctl("migrate", "repair", "--checksums")
    with pytest.raises(MigrationFailedError) as failed:
        down(file, steps=2)
    assert "002_books was rolled back completely. Done by this run: 003_notes" in failed.value.hint
    assert re.search(r"Restore the previous state with: \S*dbctl restore apply ", failed.value.hint)
    assert file.states() == ["applied", "applied", "pending"]


@pytest.mark.parametrize("engine", deployments.ENGINES)
def test_down_of_an_empty_database_has_nothing_to_do(engine, tmp_path):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        if engine == "sqlite":
            desk.base.run("create table t (x integer)", "drop table t")
        desk.write(FILES)
        assert down(desk) == []
        assert not desk.tables()


def test_to_and_steps_limit_down(file):
    assert [migration.name for migration in down(file, to="1")] == ["003_notes", "002_books"]
    file.up()
    assert [migration.name for migration in down(file, steps=2)] == ["003_notes", "002_books"]
    with pytest.raises(MigrationMissingError, match="no applied migration '003' in"):  # it is pending
        down(file, to="003")
    with file.open_app() as app, pytest.raises(UsageError):
        MigrateDown(app, find_targets(app), DownSelection(steps=1, to="1"))


def test_plan_shows_lost_rows_and_changes_nothing(desk):
    desk.base.run("insert into notes values (1), (2)")
    before = desk.base.content()
    with desk.open_app() as app:
        plan = MigrateDown(app, find_targets(app), DownSelection(to="1")).plan()
    assert plan.destructive
    assert plan.rows == {"notes": 2}
    assert plan.steps[0].startswith("create a safety backup of main in ")
    assert plan.steps[1:] == ["revert 003_notes (2 statements)", "revert 002_books (1 statement)"]
    assert desk.base.content() == before
    desk.base.run("insert into notes values (3)")
    with pytest.raises(PlanChangedError):
        down(desk, confirmed=plan.digest, to="1")
    assert desk.count("notes") == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-- migrate:up\ncreate table four (id integer);\n", "no down script"),
        (
            "-- migrate:up\ncreate table four (id integer);\n-- migrate:down\n-- nothing to do\n",
            "no down script",
        ),
        (
            "-- migrate:up\ncreate table four (id integer);\n-- migrate:down\ndrop table if exists four, schema_migrations;\n",
            "drop the ledger",
        ),
    ],
)
def test_irreversible_migration_is_refused_before_anything_runs(desk, text, reason):
    desk.write({"004_four": text})
    desk.up()
    with pytest.raises(MigrationIrreversibleError, match=reason):
        down(desk, all_migrations=True)
    assert desk.states() == ["applied"] * 4


def test_ledger_dropped_by_dynamic_sql_is_rolled_back(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        text = "-- migrate:up\ncreate table t (id integer);\n-- migrate:down\ndo $$ begin execute 'drop table schema_' || 'migrations'; end $$;\n"
        desk.write({"001_t": text})
        desk.up()
        with pytest.raises(MigrationFailedError, match="drops the ledger") as caught:
            down(desk)
        assert "rolled back completely" in caught.value.hint
        assert desk.states() == ["applied"]


def test_changed_file_is_not_reverted(file):
    file.write({"002_books": FILES["002_books"] + "-- more\n"})
    with pytest.raises(MigrationChangedError):
        down(file)


def test_down_all_is_refused_for_a_protected_app(file):
    config = file.folder / "dbctl.toml"
    config.write_text(config.read_text().replace("[apps.desk]\n", "[apps.desk]\nprotected = true\n", 1))
    with pytest.raises(DownAllRefusedError):
        down(file, all_migrations=True)
    assert file.dbctl("migrate", "down", "--yes", status=6)["code"] == "confirmation-missing"
    file.dbctl("migrate", "down", "--confirm", "desk")
    assert file.states() == ["applied", "applied", "pending"]


def test_down_requires_confirmation(file):
    assert file.dbctl("migrate", "down", status=6)["code"] == "confirmation-missing"
    assert file.dbctl("migrate", "down", "--dry-run")["plan"]["destructive"]
    result = file.dbctl("migrate", "down", "--yes", "--no-backup")
    assert (result["items"][0]["name"], result["items"][0]["safety_backup"]) == ("003_notes", None)
    assert not (file.folder / "backups").exists()
    file.dbctl("migrate", "down", "--steps", "0", "--yes", status=2)


def test_failing_down_script_is_rolled_back_or_partial(desk):
    desk.write(
        {
            "004_bad": "-- migrate:up\ncreate table four (id integer);\n-- migrate:down\ndrop table four;\ndrop table nosuch;\n"
        }
    )
    desk.up()
    with pytest.raises(MigrationFailedError) as failed:
        down(desk)
    if desk.engine != "mysql":
        assert desk.states() == ["applied"] * 4
        assert "four" in desk.tables()
        assert not [
            path
            for path in (desk.folder / "backups").rglob("*")
            if path.is_file() and "manifest" in path.name
        ]
        return
    assert isinstance(failed.value, MigrationPartialError)
    assert re.search(r"Restore the previous state with: \S*dbctl restore apply ", failed.value.hint)
    assert desk.describe_states()["004_bad"] == ("failed", "statement 1 of 2 of the down script has run")
    with pytest.raises(MigrationPartiallyRevertedError):
        desk.up()
    desk.base.run("create table nosuch (id integer)")
    assert [path.name for path in down(desk)] == ["004_bad"]
    assert desk.states() == ["applied"] * 3 + ["pending"]


def test_down_is_recorded_if_a_foreign_key_refers_to_a_table_with_a_unique_index(
    answer, tmp_path, monkeypatch
):
    """Its collation is read after the script has changed the schema, inside the transaction of the script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    (tmp_path / "migrations").mkdir()
    for name, text in {
        "001_first.up.sql": "create table a (id integer primary key, n text unique);\ncreate table b (a integer references a);",
        "002_second.up.sql": "create table c (id integer);",
        "002_second.down.sql": "drop table c;",
    }.items():
        (tmp_path / "migrations" / name).write_text(text)
    options = ("--url", "main=app.db", "--migrations", "migrations")
    answer("migrate", "up", *options)
    (reverted,) = answer("migrate", "down", "--no-backup", "--yes", *options)["data"]["items"]
    assert reverted["name"] == "002_second"
