"""All types, tables and objects of PostgreSQL are restored, compared with ``pg_dump`` and ``psql``."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.engines.postgresql import statements
from dbctl.engines.sql.catalog import ident
from tests import servers
from tests.services import postgresql_kinds, promptvault_app

pytestmark = pytest.mark.slow

PROFILE = """[apps.kinds]
profile = "plain"
[apps.kinds.databases]
main = "{url}"
[apps.kinds.backup]
repository = "backups"
"""


@pytest.fixture(scope="module")
def kinds_database():
    """A database with a sample of every kind, and a role that owns some objects."""
    server = servers.postgresql()
    name = f"t_kinds_{time.time_ns():x}"
    with closing(servers.connection(server)) as admin:
        admin.execute(f"create database {name} template template0 encoding 'UTF8' locale 'C'")
        admin.execute(f"create role {name}")
        try:
            url = structs.replace(server, path=name)
            with closing(servers.connection(url)) as connection:
                postgresql_kinds.create_samples(connection, role=name, split=statements.SCRIPTS.split)
            yield url
        finally:
            rows = admin.execute("select datname from pg_database where starts_with(datname, %s)", [name])
            for (row,) in rows.fetchall():  # also retained databases
                admin.execute(f"drop database {ident(row)} with (force)")
            admin.execute(f"drop role {name}")


@pytest.fixture(scope="module")
def connection(kinds_database):
    with closing(servers.connection(kinds_database)) as connection:
        yield connection


def test_every_type_and_object_kind_has_a_sample(connection):
    """A new kind in a new version of the server requires a sample, or an entry in a list of exceptions."""
    sampled = postgresql_kinds.VALUES.keys() | postgresql_kinds.WITHOUT_VALUES.keys()
    assert [name for name in postgresql_kinds.list_types(connection) if name not in sampled] == []
    empty = [
        name
        for name in postgresql_kinds.list_catalogs(connection)
        if not postgresql_kinds.read_rows(connection, name)
    ]
    assert [name for name in empty if name not in postgresql_kinds.NO_ROWS] == []
    unused = connection.execute(
        "select amname from pg_am a where oid < 16384 and not exists"
        " (select from pg_class c where c.relam = a.oid and c.oid >= 16384)"
    )
    assert unused.fetchall() == []
    assert postgresql_kinds.find_unsampled(connection) == {}


def test_every_type_and_object_kind_is_restored(kinds_database, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/dbctl.toml").write_text(PROFILE.format(url=servers.text(kinds_database)))
    path = tmp_path / "app/any"
    before = postgresql_kinds.describe(kinds_database)
    backup = promptvault_app.create_app_backup(path)
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    promptvault_app.apply_restore(path, backup.id)
    after = postgresql_kinds.describe(kinds_database)
    assert [name for name in before if before[name] != after.get(name)] == []
    assert after.keys() == before.keys()
