"""The hint about a migration of which a part remains, by its cause."""

from __future__ import annotations

from contextlib import closing

import pytest

from dbctl.errors.migrations import MigrationPartialError
from tests import servers
from tests.services.migrations.deployments import ENGINES, create_desk


def test_file_is_only_corrected_if_it_is_the_cause(answer, tmp_path):
    tables = "create table a (id integer primary key); create table b (id integer primary key); insert into b values (1);"
    (tmp_path / "001-tables.sql").write_text(tables)
    with servers.mysql_database() as url:
        words = ("--url", f"main={servers.text(url)}", "migrate", "up", "--migrations", str(tmp_path))
        answer(*words)
        file = tmp_path / "002-columns.sql"
        file.write_text("alter table a add column n integer;\nalter table b add column n integer;")
        with closing(servers.mysql_connection(url)) as other, other.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute("select * from b")
            error = answer(*words, "--timeout", "0", status=1)["error"]
        assert (error["code"], "Correct" in error["hint"]) == ("migration-partial", False)
        answer(*words)
        file = tmp_path / "003-errors.sql"
        file.write_text("alter table a add column m integer;\nalter table b add column n integer;")
        error = answer(*words, status=1)["error"]
        assert (error["code"], "Correct" in error["hint"]) == ("migration-partial", True)


@pytest.mark.parametrize("engine", ENGINES)
def test_temporary_table_of_statements_that_ran_is_named_and_created_again(tmp_path, engine):
    temporary = "create temporary table picked (x integer);\ninsert into picked values (1);\n"
    start = f"-- dbctl: no-transaction\ncreate table t (x integer);\n{temporary}"
    with create_desk(engine, tmp_path / "desk") as desk:
        desk.write({"001_first": f"{start}insert into t select x from nosuch;\n"})
        with pytest.raises(MigrationPartialError) as failed:
            desk.up()
        assert "uses picked, create" in failed.value.hint
        last = "insert into t select x from picked;\n"
        desk.write({"001_first": start + last})
        with pytest.raises(MigrationPartialError) as failed:
            desk.up()
        assert "uses picked, create" in failed.value.hint
        desk.write({"001_first": start + temporary + last})
        desk.up()
        assert (desk.count("t"), desk.states()) == (1, ["applied"])
