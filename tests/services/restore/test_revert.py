"""A restore of several databases whose last one fails: the databases before it are reverted."""

from __future__ import annotations

import pytest

from dbctl.errors.backup import RestorePartialError
from dbctl.errors.connection import BusyError
from tests.services.flashpoint_app import catch_error, query_rows, run_statements
from tests.services.promptvault_app import apply_restore, create_app_backup, list_all_backups
from tests.services.restore.test_apply import open_read_transaction

NAMES = ("one", "two", "three")


@pytest.fixture
def paths(tmp_path):
    """An app with three changed databases and a backup of their first state."""
    profile = 'schema = "dbctl.profile/1"\nname = "trio"\ntitle = "Trio"\n'
    for name in NAMES:
        run_statements(tmp_path / f"{name}.db", "create table t (x)", f"insert into t values ('{name}')")
        profile += f'[databases.{name}]\nengines = ["sqlite"]\nneeds = ["t"]\n'
    (tmp_path / "trio.toml").write_text(profile)
    lines = [f'{name} = "{name}.db"' for name in NAMES]
    (tmp_path / "dbctl.toml").write_text(
        "\n".join(['[apps.trio]\nprofile = "trio.toml"\n[apps.trio.databases]', *lines])
        + '\n[apps.trio.backup]\nrepository = "backups"\n'
    )
    paths = [tmp_path / f"{name}.db" for name in NAMES]
    create_app_backup(paths[0])
    for path in paths:
        run_statements(path, "update t set x = 'changed'")
    return paths


def read_values(paths):
    return [query_rows(path, "select x from t")[0][0] for path in paths]


def fail_restore(paths, error_type):
    """Restore while another process reads the last database, and return the error."""
    with open_read_transaction(paths[-1]) as app:
        error = catch_error(error_type, lambda: apply_restore(paths[-1], timeout=0.2))
        app.execute("rollback")
    return error


def test_all_databases_are_reverted(paths):
    fail_restore(paths, BusyError)
    assert read_values(paths) == ["changed"] * 3
    assert len(list_all_backups(paths[0]).page.items) == 1  # the safety backup was deleted


@pytest.mark.parametrize("missing", ["one", "two"])
def test_database_that_cannot_be_reverted_does_not_prevent_the_revert_of_another(paths, missing):
    path = paths[NAMES.index(missing)]
    path.unlink()  # there is no previous state to restore
    error = fail_restore(paths, RestorePartialError)
    assert (error.context["done"], error.context["database"]) == (missing, "three")
    assert read_values(paths) == [name if name == missing else "changed" for name in NAMES]
    assert len(list_all_backups(paths[0]).page.items) == 2


def test_error_names_all_databases_that_could_not_be_reverted(paths):
    for path in paths[:2]:
        path.unlink()
    error = fail_restore(paths, RestorePartialError)
    assert error.context["done"] == "two, one"
    assert isinstance(error.context["reason"], BusyError)
    assert read_values(paths) == ["one", "two", "changed"]
