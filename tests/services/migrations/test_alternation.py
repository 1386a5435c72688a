"""dbmate itself and dbctl, taking turns on one database: each goes on where the other stopped."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.services.migrations.down import Downgrade, Reach
from dbctl.services.migrations.safety_backup import Safety
from tests import external_tools
from tests.services.migrations import deployments
from tests.services.migrations.deployments import Desk

NAMES = [f"2024010100000{number}_{word}" for number, word in enumerate(("authors", "books", "notes"), 1)]
FILES = {
    name: f"-- migrate:up\ncreate table {name[15:]} (id integer not null primary key, word varchar(20));\n"
    f"insert into {name[15:]} values (1, 'a;b');\n\n-- migrate:down\ndrop table {name[15:]};\n"
    for name in NAMES
}


class Turns:
    """One database, and both who migrate it."""

    def __init__(self, desk: Desk, binary: Path) -> None:
        self.desk, self._binary = desk, binary

    def dbmate(self, command: str) -> str:
        url = f"sqlite:{self.desk.base.url}" if self.desk.engine == "sqlite" else self.desk.base.url
        if self.desk.engine == "postgresql":
            url += f"{'&' if '?' in url else '?'}sslmode=disable"
        folder = str(self.desk.folder / "migrations")
        done = subprocess.run(
            [self._binary, "--url", url, "--no-dump-schema", "-d", folder, command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def back(self) -> list[str]:
        with self.desk.opened() as app:
            safety = Safety(app, wanted=False)
            return [one.name for one in Downgrade(app, Reach(), safety=safety).apply().items]

    def up(self) -> list[str]:
        return [one.name for one in self.desk.up()]

    def stand(self) -> list[str]:
        """Return which migrations are applied, in the eyes of both."""
        theirs = re.findall(r"^\[X\] (.+)\.sql$", self.dbmate("status"), re.MULTILINE)
        stands = self.desk.stands()
        assert {state for state, _ in stands.values()} <= {"applied", "pending"}
        assert [name for name, (state, _) in stands.items() if state == "applied"] == theirs
        assert self.desk.tables() - {"schema_migrations"} == {name[15:] for name in theirs}
        return theirs

    def ledger(self) -> list[str]:
        return sorted(
            str(version) for (version,) in self.desk.base.rows("select version from schema_migrations")
        )


@pytest.fixture(params=deployments.PLACES)
def turns(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Turns]:
    peer = external_tools.dbmate()
    if peer is None:
        pytest.skip("npm cannot install dbmate here")
    with deployments.settled(request.param, tmp_path / "desk") as desk:
        yield Turns(desk, peer.binary)


def test_dbctl_goes_on_where_dbmate_stopped_and_dbmate_where_dbctl_did(turns: Turns) -> None:
    turns.desk.write({name: FILES[name] for name in NAMES[:2]})
    turns.dbmate("up")
    assert turns.stand() == NAMES[:2]
    turns.desk.write(FILES)
    assert turns.up() == NAMES[2:]
    assert turns.stand() == NAMES
    turns.dbmate("rollback")
    assert turns.stand() == NAMES[:2]
    assert turns.back() == NAMES[1:2]
    assert turns.stand() == NAMES[:1]
    turns.dbmate("up")
    assert turns.stand() == NAMES
    assert turns.ledger() == [name[:14] for name in NAMES]
    assert turns.up() == []


def test_dbmate_goes_on_in_a_database_that_dbctl_began(turns: Turns) -> None:
    turns.desk.write({name: FILES[name] for name in NAMES[:2]})
    assert turns.up() == NAMES[:2]
    assert turns.stand() == NAMES[:2]
    turns.desk.write(FILES)
    turns.dbmate("up")
    assert turns.stand() == NAMES
    assert turns.back() == NAMES[2:]
    turns.dbmate("rollback")
    assert turns.stand() == NAMES[:1]
    assert turns.up() == NAMES[1:]
    assert turns.stand() == NAMES
    assert turns.ledger() == [name[:14] for name in NAMES]
