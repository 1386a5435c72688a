"""Every kind of type, table and object that a PostgreSQL server supports: backed up, restored, and compared by its own programs."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.engines.postgresql.sql import script
from dbctl.engines.sql.query_builder import ident
from tests import servers
from tests.services import postgresql_kinds, promptvault_app

PROFILE = """[apps.kinds]
profile = "plain"
[apps.kinds.databases]
main = "{url}"
[apps.kinds.backup]
repository = "backups"
"""


@pytest.fixture(scope="module")
def filled():
    """A database with a sample of everything, and a role that owns some of it."""
    server = servers.postgresql()
    name = f"t_kinds_{time.time_ns():x}"
    with closing(servers.connection(server)) as central:
        central.execute(f"create database {name} template template0 encoding 'UTF8' locale 'C'")
        central.execute(f"create role {name}")
        try:
            url = structs.replace(server, path=name)
            with closing(servers.connection(url)) as own:
                postgresql_kinds.fill(own, role=name, split=script.split)
            yield url
        finally:
            rows = central.execute("select datname from pg_database where starts_with(datname, %s)", [name])
            for (each,) in rows.fetchall():  # also what restores have retained
                central.execute(f"drop database {ident(each)} with (force)")
            central.execute(f"drop role {name}")


@pytest.fixture(scope="module")
def own(filled):
    with closing(servers.connection(filled)) as connection:
        yield connection


def test_every_kind_of_type_and_object_of_the_server_has_a_sample(own):
    """A newer server knows more kinds: each wants a sample, or a reason why it needs none."""
    sampled = postgresql_kinds.VALUES.keys() | postgresql_kinds.WITHOUT_VALUES.keys()
    assert [name for name in postgresql_kinds.types(own) if name not in sampled] == []
    empty = [name for name in postgresql_kinds.catalogs(own) if not postgresql_kinds.rows(own, name)]
    assert [name for name in empty if name not in postgresql_kinds.NO_ROWS] == []
    unused = own.execute(
        "select amname from pg_am a where oid < 16384 and not exists"
        " (select from pg_class c where c.relam = a.oid and c.oid >= 16384)"
    )
    assert unused.fetchall() == []
    assert postgresql_kinds.unsampled(own) == {}


def test_everything_comes_back_as_it_was(filled, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/dbctl.toml").write_text(PROFILE.format(url=servers.text(filled)))
    path = tmp_path / "app/any"
    before = postgresql_kinds.described(filled)
    made = promptvault_app.create(path)
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    promptvault_app.apply(path, made.id)
    after = postgresql_kinds.described(filled)
    assert [name for name in before if before[name] != after.get(name)] == []
    assert after.keys() == before.keys()
