"""A source that rejects changes, such as a replica: it is only read."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from tests import servers
from tests.databases import from_url

CONFIGURATION = '[apps.a]\nprofile = "plain"\ndatabases = "{}"\nbackup.repository = "backups"\n'
TABLE = ("create table t (id integer primary key)", "insert into t values (1), (2)")


@contextmanager
def read_only_mysql():
    server = servers.private_mysql()
    with (
        servers.mysql_database(server=server) as own,
        servers.mysql_database(server=server) as other,
        closing(servers.mysql_connection(server)) as connection,
        connection.cursor() as cursor,
    ):

        def begin():
            cursor.execute("set global read_only = on")
            return own

        try:
            yield own, other, begin
        finally:
            cursor.execute("set global read_only = off")


@contextmanager
def read_only_postgresql():
    with (
        servers.postgresql_database(encoding="UTF8") as own,
        servers.postgresql_database(encoding="UTF8") as other,
        closing(servers.connection(servers.postgresql())) as connection,
    ):
        role = f"{own.path}_reader"

        def begin():
            connection.execute(f"create role {role} superuser login")
            connection.execute(f"alter role {role} set default_transaction_read_only = on")
            return structs.replace(own, user=role)

        try:
            yield own, other, begin
        finally:
            connection.execute(f"drop role if exists {role}")


@pytest.mark.parametrize("create", [read_only_mysql, read_only_postgresql])
def test_read_only_source_is_compared_and_copied(answer, create, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with create() as (own, other, begin):
        for url in (own, other):
            from_url(servers.text(url)).run(*TABLE)
        source = servers.text(begin())
        Path("dbctl.toml").write_text(CONFIGURATION.format(source))
        answer("data", "diff", "a", servers.text(other), "--check")
        answer("schema", "diff", "a", servers.text(other), "--check")
        answer("transfer", "run", "--to", "copy.db")
        answer("transfer", "verify", "--to", "copy.db")
        assert from_url("copy.db").rows("select id from t order by id") == [(1,), (2,)]
        answer("backup", "create")
        answer("restore", "apply", "latest", "--to", source, "--replace", "--yes", status=6)
        assert list(from_url(servers.text(own)).rows("select id from t order by id")) == [(1,), (2,)]
