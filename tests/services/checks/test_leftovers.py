"""The doctor reports unused leftover databases of killed restores, with the command that drops them."""

from __future__ import annotations

from contextlib import closing, contextmanager

import pytest

from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.dumps import LoadRequest
from dbctl.engines.sql.catalog import ident
from dbctl.services.backup import member_files
from dbctl.services.checks.run import examine
from tests import servers
from tests.services import larder_app, promptvault_app


@pytest.fixture(params=["postgresql", "mysql"])
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


def execute(pantry, statement):
    if pantry.engine == "postgresql":
        with closing(servers.connection(servers.postgresql())) as connection:
            connection.execute(statement.rstrip(";"))
    else:
        with closing(servers.mysql_connection(servers.mysql())) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


def quote_name(pantry, name):
    return ident(name) if pantry.engine == "postgresql" else f"`{name}`"


def create_database(pantry, name):
    # a session of another test may be in template1
    template = " template template0" if pantry.engine == "postgresql" else ""
    execute(pantry, f"create database {quote_name(pantry, name)}{template}")


def list_leftovers(pantry):
    selection = Selection(config=str(pantry.path.with_name("dbctl.toml")))
    findings = examine([selection], timeout=5).findings.findings
    return [finding for finding in findings if finding.code == "leftover-files"]


@contextmanager
def open_trial_restore(pantry):
    """Start a trial restore; yield the name of its database."""
    backup = promptvault_app.create_app_backup(pantry.path)
    (member,) = backup.members
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        manifest = repository.find(backup.id)
        with (
            member_files.open_reader(repository.store, promptvault_app.create_keys(app)) as backup_reader,
            registry.load_engine(member.engine).trial_restore(
                pantry.own,
                LoadRequest(
                    path=backup_reader.decode(manifest, member, "larder/pantry"), dump=member.dump, timeout=5
                ),
                "larder/pantry",
            ) as trial,
        ):
            yield trial.url.path


def test_doctor_reports_leftovers_and_hint_removes_them(pantry):
    assert list_leftovers(pantry) == []
    old, leftover = (f"{pantry.own.path}_dbctl_new_{number}" for number in ("0badcafe", "1badcafe"))
    unrelated = [f"{pantry.own.path}_dbctl_new_other", f"x{leftover}"]
    try:
        for name in (old, *unrelated):
            create_database(pantry, name)
        with open_trial_restore(pantry) as in_use:
            # A trial restore drops unused leftovers before it starts.
            assert in_use.startswith(f"{pantry.own.path}_dbctl_new_")
            assert old not in pantry.databases()
            create_database(pantry, leftover)
            (finding,) = list_leftovers(pantry)
            assert leftover in finding.message
            assert (finding.severity, finding.target) == ("warning", "larder/pantry")
        execute(pantry, finding.hint.partition("with: ")[2])
        assert list_leftovers(pantry) == []
        assert leftover not in pantry.databases()
    finally:
        for name in (old, leftover, *unrelated):
            execute(pantry, f"drop database if exists {quote_name(pantry, name)}")


def test_doctor_checks_configured_scratch_server(pantry):
    with larder_app.open_pantry(pantry.engine, pantry.folder / "scratch") as scratch:
        file = pantry.path.with_name("dbctl.toml")
        file.write_text(f'{file.read_text()}scratch = "{scratch.url}"\n')
        leftover = f"{scratch.own.path}_dbctl_new_0badcafe"
        create_database(pantry, leftover)
        try:
            (finding,) = list_leftovers(pantry)
            assert leftover in finding.message
        finally:
            execute(pantry, f"drop database {quote_name(pantry, leftover)}")
        assert list_leftovers(pantry) == []
