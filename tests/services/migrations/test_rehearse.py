"""``migrate rehearse``: migrations run on a copy, effects are reported, and the original is unchanged."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dbctl.errors.connection import InsufficientSpaceError, PrivilegeMissingError
from dbctl.errors.migrations import MigrationsOutOfOrderError, RehearsalFailedError, RehearsalRefusedError
from dbctl.services.migrations import rehearse as migration_rehearsal
from dbctl.services.migrations.execution.plan import UpSelection
from dbctl.services.migrations.status import find_targets
from tests import servers
from tests.databases import PostgreSQL
from tests.services.migrations import deployments

MORE = {
    "003_more": "-- A year for each book.\nalter table books add column year integer default 1999;\n"
    "insert into authors values (4, 'Sam');\n",
    "004_less": "-- Away with the first.\n-- dbctl: allow-data-loss\ndelete from books where author = 1;\n",
}
#: A statement that runs longer than any test.
ENDLESS = {
    "sqlite": "with recursive n(x) as (select 1 union all select x + 1 from n) insert into authors select max(x), 'x' from n;",
    "postgresql": "select pg_sleep(3600);",
    "mysql": "select sleep(3600);",
}


def rehearse(desk, **options):
    with desk.open_app() as app:
        return migration_rehearsal.rehearse(app, find_targets(app), UpSelection(**options))


def list_copies(desk):
    """Return the files of the app and the databases of its server."""
    if desk.engine == "sqlite":
        return sorted(
            str(path.relative_to(desk.folder))
            for path in desk.folder.rglob("*")
            if "migrations" not in str(path)
        )
    name = desk.base.own.path
    if desk.engine == "postgresql":
        with closing(servers.connection(servers.postgresql())) as central:
            databases = central.execute(
                "select datname from pg_database where starts_with(datname, %s)", [name]
            )
            return [*list_folders(desk), *(database for (database,) in databases.fetchall())]
    with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
        cursor.execute("select schema_name from information_schema.schemata")
        return [
            *list_folders(desk),
            *(database for (database,) in cursor.fetchall() if database.startswith(name)),
        ]


def list_folders(desk):
    return list(desk.folder.glob(f"{migration_rehearsal.FOLDER_PREFIX}*"))


def test_rehearsal_reports_rows_and_schema_and_changes_nothing(desk):
    desk.write(MORE)
    before, copies_before = desk.base.content(), list_copies(desk)
    raw = desk.base.path.read_bytes() if desk.engine == "sqlite" else b""
    result = rehearse(desk)
    assert [(item.name, item.statements) for item in result.migrations] == [("003_more", 2), ("004_less", 1)]
    assert all(item.duration.total_seconds() >= 0 for item in result.migrations)
    assert [(item.table, item.before, item.after) for item in result.rows] == [
        ("authors", 3, 4),
        ("books", 5, 3),
    ]
    assert [(item.place, item.before) for item in result.schema] == [("books.year", "")]
    assert "1999" in result.schema[0].after
    assert {item.code for item in result.findings if item.severity == "warning"} <= {
        "rows-lost",
        "mixed-ddl-dml",
    }
    assert [item.message for item in result.findings if item.code == "rows-lost"] == [
        "rows are deleted, as the file allows: books (5 rows, 3 left)"
    ]
    assert result.status == 0
    assert (desk.base.content(), list_copies(desk)) == (before, copies_before)
    assert desk.states() == ["applied", "applied", "pending", "pending"]
    if raw:
        assert desk.base.path.read_bytes() == raw
    assert [item.name for item in desk.up()] == ["003_more", "004_less"]


def test_to_limits_the_rehearsal(desk):
    desk.write(MORE)
    assert [migration.name for migration in rehearse(desk, to="003").migrations] == ["003_more"]


def test_failure_names_the_statement_and_leaves_no_copy(desk):
    desk.write(MORE)
    desk.write({"005_bad": "-- Bad.\ncreate table fine (a integer);\ninsert into missing values (1);\n"})
    before, copies_before = desk.base.content(), list_copies(desk)
    with pytest.raises(RehearsalFailedError) as failed:
        rehearse(desk)
    assert str(failed.value).startswith(
        "rehearsal on a copy failed: desk/main: 005_bad failed in statement 2 (line 3): "
    )
    assert failed.value.exit_status == 1
    assert "desk/main is unchanged" in failed.value.hint
    assert (desk.base.content(), list_copies(desk)) == (before, copies_before)
    assert desk.states()[2:] == ["pending"] * 3


def test_undeclared_row_loss_fails_the_rehearsal(desk):
    desk.write({"003_less": "-- Less.\ndelete from books;\n"})
    with pytest.raises(
        RehearsalFailedError, match="003_less deletes rows without declaring it: books"
    ) as failed:
        rehearse(desk)
    assert "-- dbctl: allow-data-loss" in failed.value.hint
    assert desk.count("books") == 5


def test_lint_error_sets_exit_status_4(file):
    text = "-- Up\n-- Notes.\ncreate table notes (a text default '-- down');\n-- Down\ndrop table notes;\n"
    file.write({"003_notes": text})
    result = rehearse(file)
    assert [item.name for item in result.migrations] == ["003_notes"]
    assert [item.code for item in result.findings if item.severity == "error"] == ["marker-hidden"]
    assert result.status == 4


def test_orphaned_rows_are_an_error(file):
    text = "-- Less.\n-- dbctl: no-transaction\n-- dbctl: allow-data-loss\npragma foreign_keys = off;\ndelete from authors where id = 1;\n"
    file.write({"003_less": text})
    result = rehearse(file)
    assert [
        (finding.severity, finding.message)
        for finding in result.findings
        if finding.code == "foreign-key-orphans"
    ] == [("error", "2 rows of books (author) refer to missing rows of authors")]
    assert result.status == 4
    assert file.count("authors") == 3


def test_one_schema_of_a_database_is_rehearsed_alone(tmp_path):
    folder = tmp_path / "desk"
    folder.mkdir()
    with servers.postgresql_schema() as url:
        desk = deployments.Desk(folder, PostgreSQL(url))
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        desk.write(MORE)
        before, copies_before = desk.base.content(), list_copies(desk)
        other = f"{servers.schema_of(url)}_other"  # what a copy of the schema lacks prevents no rehearsal
        desk.base.run(
            "create extension file_fdw schema pg_catalog",
            f"create schema {other}",
            f"create server {other} foreign data wrapper file_fdw",
            f"create foreign table {other}.far (line text) server {other} options (filename '/dev/null')",
        )
        try:
            rows = [(table.table, table.after) for table in rehearse(desk).rows]
        finally:
            desk.base.run(f"drop schema {other} cascade", "drop extension file_fdw cascade")
        assert rows == [("authors", 4), ("books", 3)]
        assert (desk.base.content(), list_copies(desk)) == (before, copies_before)


def test_nothing_pending_copies_nothing(desk):
    result = rehearse(desk)
    assert (result.migrations, result.rows, result.schema, result.findings, result.status) == (
        [],
        [],
        [],
        [],
        0,
    )


def test_rehearsal_refuses_what_up_refuses(file):
    file.write({"000_late": "-- Late.\nselect 1;\n"})
    with pytest.raises(MigrationsOutOfOrderError):
        rehearse(file)


def test_missing_database_is_rehearsed_and_not_created(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "new") as desk:
        desk.write(deployments.INITIAL_FILES)
        result = rehearse(desk)
        assert [(table.table, table.before, table.after) for table in result.rows] == [
            ("authors", None, 3),
            ("books", None, 5),
        ]
        assert list_copies(desk) == ["dbctl.toml"]


SIDE_EFFECTS = {
    "postgresql": [
        "create role {0}_reader;",
        "do $$ begin create role {0}_reader; end $$;",
        "grant postgres to {0};",
    ],
    "mysql": [
        "update {0}.books set id = id + 10;",
        "create user {0}_reader;",
        "insert into {0}.authors select 9, 'x';",
    ],
}


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("engine", SIDE_EFFECTS)
def test_external_side_effects_are_refused_even_if_allowed_for_lint(tmp_path, engine, index):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        sql = SIDE_EFFECTS[engine][index].format(desk.base.own.path)
        desk.write({"003_reach": f"-- dbctl: allow external-side-effect\n\n{sql}\n"})
        before, copies_before = desk.base.content(), list_copies(desk)
        with pytest.raises(RehearsalRefusedError, match=r"cannot rehearse 003_reach.*\(line 3\)"):
            rehearse(desk)
        assert (desk.base.content(), list_copies(desk)) == (before, copies_before)


def test_rows_of_another_server_are_not_changed(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        own = desk.base.own
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        desk.base.run(
            "create table outside (id integer)",
            "insert into outside values (1)",
            "create extension postgres_fdw",
            f"create server far foreign data wrapper postgres_fdw options (host '{own.host}', port '{own.port}', dbname '{own.path}')",
            f"create user mapping for public server far options (user '{own.user}')",
            "create foreign table far (id integer) server far options (table_name 'outside')",
        )
        desk.write({"003_far": "update far set id = 2;\n"})
        copies_before = list_copies(desk)
        with pytest.raises(RehearsalRefusedError, match="another server stores the rows of far"):
            rehearse(desk)
        assert desk.base.rows("select id from outside") == [(1,)]
        assert list_copies(desk) == copies_before


def test_missing_createdb_privilege_is_named(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        desk.write(MORE)
        role = f"r_{desk.base.own.path}"
        desk.base.run(f"create role {role} login", f"grant all on all tables in schema public to {role}")
        config = desk.folder / "dbctl.toml"
        config.write_text(config.read_text().replace("postgres@", f"{role}@"))
        try:
            with pytest.raises(PrivilegeMissingError, match="may not create databases") as caught:
                rehearse(desk)
            assert "CREATEDB" in caught.value.hint
            assert list_folders(desk) == []
        finally:
            desk.base.run(f"drop owned by {role}", f"drop role {role}")


def test_insufficient_disk_space_is_reported_before_copying(file, monkeypatch):
    file.write(MORE)
    monkeypatch.setattr("dbctl.files.mounts.free_space", lambda _path: 1)
    with pytest.raises(InsufficientSpaceError):
        rehearse(file)
    assert list_folders(file) == []


def start_endless_rehearsal(desk):
    """Start a rehearsal that does not end; return its process after it has created a copy."""
    desk.write({"003_endless": f"-- Endless.\n{ENDLESS[desk.engine]}\n"})
    before = list_copies(desk)
    process = subprocess.Popen(
        [sys.executable, "-m", "dbctl", "migrate", "rehearse"],
        cwd=desk.folder,
        env=deployments.ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(set(list_copies(desk)) - set(before)) < 2 and process.poll() is None:
        time.sleep(0.02)
    return process, before


@pytest.mark.slow
def test_an_interrupted_rehearsal_leaves_neither_a_database_nor_a_file(desk):
    process, before = start_endless_rehearsal(desk)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert list_copies(desk) == before


def test_copy_is_readable_only_by_its_owner(desk):
    process, _ = start_endless_rehearsal(desk)
    (folder,) = list_folders(desk)
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "copy")]
    process.terminate()
    process.communicate(timeout=60)
    assert modes == [0o700, 0o600]


def test_leftovers_of_a_killed_rehearsal_are_removed_by_the_next(file):
    process, before = start_endless_rehearsal(file)
    process.kill()
    process.communicate(timeout=60)
    assert len(list_folders(file)) == 1
    (file.folder / "migrations/003_endless.sql").unlink()
    file.write(MORE)
    rehearse(file)
    assert [path for path in list_copies(file) if path not in before] == []


def test_rehearse_command_lists_migrations_and_reports_failures(file):
    file.write(MORE)
    result = file.dbctl("migrate", "rehearse")
    assert [migration["name"] for migration in result["migrations"]] == ["003_more", "004_less"]
    file.write({"005_bad": "-- Bad.\nselect nothing;\n"})
    assert file.dbctl("migrate", "rehearse", status=1)["code"] == "rehearsal-failed"
