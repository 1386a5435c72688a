"""Plans of migrations: how each one runs, and that they are computed before the lock and again under it, not more often."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.engines import registry
from dbctl.errors.usage import PlanChangedError
from dbctl.services.migrations import database_plan
from dbctl.services.migrations.execution.plan import DownSelection, ExecutionPlan
from dbctl.services.migrations.files.loader import MigrationFile
from dbctl.services.migrations.ledger.journal import PartialMigration, Step
from dbctl.services.migrations.operations import MigrateDown, MigrateUp, ResetDatabase
from dbctl.services.migrations.status import find_targets
from tests.services.migrations import deployments

FILES = {
    "001_books": "-- migrate:up\ncreate table books (id integer primary key);\n-- migrate:down\ndrop table books;\n",
    "002_notes": "-- migrate:up\ncreate table notes (id integer primary key);\n-- migrate:down\ndrop table notes;\n",
}


@pytest.fixture
def desk(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "desk") as created:
        created.write(FILES)
        yield created


def plan_script(sql, **options):
    file = MigrationFile(
        version="001", description="x", name="001_x", path=Path("001_x.sql"), raw=sql.encode(), format="auto"
    )
    steps = file.parse_up(registry.load_engine("sqlite").script_dialect)
    return ExecutionPlan(file=file, steps=steps, **options)


def create_partial(ended):
    steps = [Step(number=number, sha256="", ended=True, failed=False) for number in range(1, ended + 1)]
    return PartialMigration(name="001_x", direction="up", steps=steps)


@pytest.mark.parametrize(
    ("sql", "ended", "is_atomic"),
    [
        ("create table a (id integer);", None, True),
        ("-- dbctl: no-transaction\ncreate table a (id integer);", None, False),
        ("create table a (id integer);", 0, False),
    ],
)
def test_plan_runs_in_one_transaction_unless_the_file_or_an_earlier_run_prevents_it(sql, ended, is_atomic):
    resumes_from = None if ended is None else create_partial(ended)
    assert plan_script(sql, resumes_from=resumes_from).is_atomic is is_atomic


def test_plan_continues_after_the_completed_statements():
    script = "create table a (id integer);\ncreate table b (id integer);\n"
    assert plan_script(script).completed_count == 0
    assert plan_script(script, resumes_from=create_partial(1)).completed_count == 1


@pytest.mark.parametrize(
    ("row_loss", "sql", "counts_rows", "needs_safety_backup"),
    [
        ("refuse", "create table a (id integer);", False, False),
        ("refuse", "update a set id = 1;", True, False),
        ("refuse", "delete from a;", True, True),
        ("report", "delete from a;", True, True),
        ("report", "create table a (id integer);", False, True),
        ("ignore", "delete from a;", False, False),
    ],
)
def test_policy_decides_about_counting_and_the_safety_backup(row_loss, sql, counts_rows, needs_safety_backup):
    plan = plan_script(sql, row_loss=row_loss)
    assert (plan.counts_rows, plan.needs_safety_backup) == (counts_rows, needs_safety_backup)


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_up_and_down_are_planned_before_the_lock_and_under_it(desk, monkeypatch, is_confirmed):
    calls = []

    def count_calls(module, name):
        original = getattr(module, name)

        def counted(*arguments):
            calls.append(name)
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)

    count_calls(database_plan, "plan_up")
    count_calls(database_plan, "plan_down")
    with desk.open_app() as app:
        for operation in (
            MigrateUp(app, find_targets(app)),
            MigrateDown(app, find_targets(app), DownSelection()),
        ):
            operation.apply(operation.plan().digest if is_confirmed else None)
    assert calls == ["plan_up", "plan_up", "plan_down", "plan_down"]


@pytest.mark.parametrize("operation", ["down", "reset"])
def test_rows_inserted_after_the_confirmation_are_not_deleted(desk, operation):
    desk.up()
    with desk.open_app() as app:
        change = (
            MigrateDown(app, find_targets(app), DownSelection())
            if operation == "down"
            else ResetDatabase(app, find_targets(app))
        )
        confirmed = change.plan().digest
        desk.base.run("insert into notes values (1)")
        with pytest.raises(PlanChangedError):
            change.apply(confirmed)
    assert desk.count("notes") == 1
    assert desk.states() == ["applied", "applied"]
