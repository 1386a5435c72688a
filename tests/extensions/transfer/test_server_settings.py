"""Settings of a database or server, with which every session begins, change no value and no answer."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests import servers
from tests.conformance.value_table import ValueTable, draw, list_differences
from tests.databases import from_url
from tests.extensions.transfer import test_native, test_native_mysql


@contextmanager
def unusual_postgresql():
    """Yield a database with objects of many kinds, an empty one, and a function that sets or resets the settings of the first."""
    with (
        servers.postgresql_database(encoding="UTF8") as own,
        servers.postgresql_database(encoding="UTF8") as other,
    ):
        test_native.execute(own, test_native.SCHEMA, test_native.ROWS)

        def change(*, unusual):
            for name, value in servers.UNUSUAL_POSTGRESQL.items():
                setting = f"set {name} = {value}" if unusual else f"reset {name}"
                test_native.execute(own, f"alter database {own.path} {setting}")

        yield own, other, change, lambda: sorted(test_native.dump(own))


@contextmanager
def unusual_mysql():
    server = servers.private_mysql(*servers.UNUSUAL_MYSQL)
    with servers.mysql_database(server=server) as own, servers.mysql_database() as other:
        test_native_mysql.create_source(own)
        yield own, other, lambda **_: None, lambda: test_native_mysql.describe(own)


@pytest.mark.parametrize(
    "setting", ["--default-storage-engine=MyISAM", "--innodb-default-row-format=compact"]
)
def test_tables_of_a_transfer_have_transactions_and_long_keys_whatever_the_defaults(
    answer, tmp_path, monkeypatch, setting
):
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "a.db"\n')
    with closing(sqlite3.connect("a.db")) as connection, connection:
        connection.execute("create table t (id integer primary key, a varchar(255) unique)")
        connection.execute("insert into t values (1, 'one')")
    with servers.mysql_database(server=servers.private_mysql(setting)) as url:
        answer("transfer", "run", "--to", servers.text(url), "--yes")
        answer("transfer", "verify", "--to", servers.text(url))
        for compare in ("data", "schema"):  # before the switch, the state of the transfer is no difference
            answer(compare, "diff", "a", servers.text(url), "--check")
        answer("transfer", "switch", "--to", servers.text(url), "--yes")


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_destination_that_folds_names_of_tables_is_refused_by_the_plan(answer, tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    server = servers.private_mysql("--lower-case-table-names=1")
    with servers.mysql_database() as own, servers.mysql_database(server=server) as url:
        database = from_url(servers.text(own)) if engine == "mysql" else from_url("a.db")
        Path("dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        database.run('create table "Orders" (id integer primary key)')
        for command in ("plan", "run"):
            words = ["--yes"] if command == "run" else []
            document = answer("transfer", command, "--to", servers.text(url), *words, status=4)
            assert "lower_case_table_names" in str(document)
        assert from_url(servers.text(url)).tables() == []


@pytest.mark.slow
@pytest.mark.parametrize("create", [unusual_postgresql, unusual_mysql])
def test_settings_of_a_database_change_nothing(answer, create, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with create() as (own, other, change, describe):
        database, copy = from_url(servers.text(own)), servers.text(other)
        Path("dbctl.toml").write_text(
            f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n[apps.a.backup]\nrepository = "backups"\n'
        )
        table = ValueTable(database)
        delete = ("data", "delete", "kinds", "--filter", "n>=0", "--limit", "1000", "--yes")

        def check(rows):
            table.fill(rows)
            before = table.read(), describe()

            def require_unchanged():
                change(unusual=False)
                assert list_differences(table.read(), before[0]) == []
                assert describe() == before[1]
                change(unusual=True)

            change(unusual=True)
            backup = answer("backup", "create")["data"]["id"]
            answer("restore", "apply", backup, "--to", copy, "--replace", "--yes")
            for side in ("backup:latest", copy):
                answer("data", "diff", side, "a", "--check")
                answer("schema", "diff", side, "a", "--check")
            for form in ("csv", "jsonl"):
                Path(f"rows.{form}").unlink(missing_ok=True)
                answer("data", "export", "kinds", f"rows.{form}")
                answer(*delete)
                answer("data", "import", "kinds", f"rows.{form}")
                require_unchanged()
            answer(*delete)
            operation = answer("audit", "list", "--limit", "1")["data"]["items"][0]["operation"]
            answer("undo", str(operation), "--yes")
            require_unchanged()
            answer(*delete)
            answer("restore", "apply", backup, "--yes")
            require_unchanged()

        draw(table.kinds, check, examples=1)
