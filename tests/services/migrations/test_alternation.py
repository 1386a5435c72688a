"""dbmate and dbctl alternate on one database: each continues where the other stopped."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.services.migrations.execution.plan import DownSelection
from dbctl.services.migrations.operations import MigrateDown, SafetyBackup
from dbctl.services.migrations.status import find_targets
from tests import external_tools
from tests.services.migrations import deployments
from tests.services.migrations.deployments import Desk

SLOW_ON_SERVERS = [pytest.mark.slow, pytest.mark.product]
NAMES = [f"2024010100000{number}_{word}" for number, word in enumerate(("authors", "books", "notes"), 1)]
FILES = {
    name: f"-- migrate:up\ncreate table {name[15:]} (id integer not null primary key, word varchar(20));\n"
    f"insert into {name[15:]} values (1, 'a;b');\n\n-- migrate:down\ndrop table {name[15:]};\n"
    for name in NAMES
}


class Runners:
    """One database with both runners, dbmate and dbctl."""

    def __init__(self, desk: Desk, binary: Path) -> None:
        self.desk, self._binary = desk, binary

    def dbmate(self, command: str) -> str:
        url = f"sqlite:{self.desk.base.url}" if self.desk.engine == "sqlite" else self.desk.base.url
        if self.desk.engine == "postgresql":
            url += f"{'&' if '?' in url else '?'}sslmode=disable"
        folder = str(self.desk.folder / "migrations")
        process = subprocess.run(
            [self._binary, "--url", url, "--no-dump-schema", "-d", folder, command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, (process.stdout, process.stderr)
        return process.stdout

    def migrate_down(self) -> list[str]:
        with self.desk.open_app() as app:
            safety = SafetyBackup(app, enabled=False)
            return [
                migration.name
                for migration in MigrateDown(app, find_targets(app), DownSelection(), safety_backup=safety)
                .apply()
                .items
            ]

    def migrate_up(self) -> list[str]:
        return [migration.name for migration in self.desk.up()]

    def assert_agreement(self) -> list[str]:
        """Assert that both runners report the same applied migrations, and return their names."""
        applied = re.findall(r"^\[X\] (.+)\.sql$", self.dbmate("status"), re.MULTILINE)
        details = self.desk.describe_states()
        assert {state for state, _ in details.values()} <= {"applied", "pending"}
        assert [name for name, (state, _) in details.items() if state == "applied"] == applied
        assert self.desk.tables() - {"schema_migrations"} == {name[15:] for name in applied}
        return applied

    def read_ledger(self) -> list[str]:
        return sorted(
            str(version) for (version,) in self.desk.base.rows("select version from schema_migrations")
        )


@pytest.fixture(
    params=["sqlite", *(pytest.param(engine, marks=SLOW_ON_SERVERS) for engine in ("postgresql", "mysql"))]
)
def turns(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runners]:
    peer = external_tools.dbmate()
    if peer is None:
        pytest.skip("npm cannot install dbmate here")
    with deployments.create_desk(request.param, tmp_path / "desk") as desk:
        yield Runners(desk, peer.binary)


def test_dbctl_and_dbmate_alternate_on_one_database(turns: Runners) -> None:
    turns.desk.write({name: FILES[name] for name in NAMES[:2]})
    turns.dbmate("up")
    assert turns.assert_agreement() == NAMES[:2]
    turns.desk.write(FILES)
    assert turns.migrate_up() == NAMES[2:]
    assert turns.assert_agreement() == NAMES
    turns.dbmate("rollback")
    assert turns.assert_agreement() == NAMES[:2]
    assert turns.migrate_down() == NAMES[1:2]
    assert turns.assert_agreement() == NAMES[:1]
    turns.dbmate("up")
    assert turns.assert_agreement() == NAMES
    assert turns.read_ledger() == [name[:14] for name in NAMES]
    assert turns.migrate_up() == []


def test_dbmate_continues_a_database_created_by_dbctl(turns: Runners) -> None:
    turns.desk.write({name: FILES[name] for name in NAMES[:2]})
    assert turns.migrate_up() == NAMES[:2]
    assert turns.assert_agreement() == NAMES[:2]
    turns.desk.write(FILES)
    turns.dbmate("up")
    assert turns.assert_agreement() == NAMES
    assert turns.migrate_down() == NAMES[2:]
    turns.dbmate("rollback")
    assert turns.assert_agreement() == NAMES[:1]
    assert turns.migrate_up() == NAMES[1:]
    assert turns.assert_agreement() == NAMES
    assert turns.read_ledger() == [name[:14] for name in NAMES]
