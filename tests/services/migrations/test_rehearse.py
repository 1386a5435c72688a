"""Rehearsing: migrations run on a copy, what they do there is told, and the original never notices."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dbctl.errors import (
    MigrationsOutOfOrderError,
    PrivilegeMissingError,
    RehearsalFailedError,
    RehearsalRefusedError,
    RoomMissingError,
)
from dbctl.services.migrations import rehearse as migration_rehearsal
from tests import servers
from tests.databases import PostgreSQL
from tests.services.migrations import deployments

MORE = {
    "003_more": "-- A year for each book.\nalter table books add column year integer default 1999;\n"
    "insert into authors values (4, 'Sam');\n",
    "004_less": "-- Away with the first.\n-- dbctl: allow-data-loss\ndelete from books where author = 1;\n",
}
#: What takes longer than any test.
ENDLESS = {
    "sqlite": "with recursive n(x) as (select 1 union all select x + 1 from n) insert into authors select max(x), 'x' from n;",
    "postgresql": "select pg_sleep(3600);",
    "mysql": "select sleep(3600);",
}


@pytest.fixture(params=deployments.PLACES)
def desk(request, tmp_path):
    with deployments.settled(request.param, tmp_path / "desk") as made:
        made.write(deployments.FIRST)
        made.up()
        yield made


@pytest.fixture
def file(tmp_path):
    with deployments.settled("sqlite", tmp_path / "desk") as made:
        made.write(deployments.FIRST)
        made.up()
        yield made


def rehearse(desk, **more):
    with desk.opened() as app:
        return migration_rehearsal.rehearse(app, **more)


def copies(desk):
    """Return what there is beside the database: databases of its server, or files."""
    if desk.engine == "sqlite":
        return sorted(
            str(one.relative_to(desk.folder))
            for one in desk.folder.rglob("*")
            if "migrations" not in str(one)
        )
    name = desk.base.own.path
    if desk.engine == "postgresql":
        with closing(servers.connection(servers.postgresql())) as central:
            found = central.execute("select datname from pg_database where starts_with(datname, %s)", [name])
            return [*folders(desk), *(one for (one,) in found.fetchall())]
    with closing(servers.mysql_connection(servers.mysql())) as central, central.cursor() as cursor:
        cursor.execute("select schema_name from information_schema.schemata")
        return [*folders(desk), *(one for (one,) in cursor.fetchall() if one.startswith(name))]


def folders(desk):
    return list(desk.folder.glob(f"{migration_rehearsal.PREFIX}*"))


def test_what_would_become_of_rows_and_schema_is_told_and_nothing_has_happened(desk):
    desk.write(MORE)
    before, beside = desk.base.content(), copies(desk)
    raw = desk.base.path.read_bytes() if desk.engine == "sqlite" else b""
    told = rehearse(desk)
    assert [(one.name, one.statements) for one in told.migrations] == [("003_more", 2), ("004_less", 1)]
    assert all(one.duration.total_seconds() >= 0 for one in told.migrations)
    assert [(one.table, one.before, one.after) for one in told.rows] == [("authors", 3, 4), ("books", 5, 3)]
    assert [(one.place, one.before) for one in told.schema] == [("books.year", "")]
    assert "1999" in told.schema[0].after
    assert {one.code for one in told.findings if one.severity == "warning"} <= {"rows-lost", "ddl-and-rows"}
    assert [one.message for one in told.findings if one.code == "rows-lost"] == [
        "rows are lost, as the file says: books (5 rows, 3 left)"
    ]
    assert told.status == 0
    assert (desk.base.content(), copies(desk)) == (before, beside)
    assert desk.states() == ["applied", "applied", "pending", "pending"]
    if raw:
        assert desk.base.path.read_bytes() == raw
    assert [one.name for one in desk.up()] == ["003_more", "004_less"]


def test_only_so_far_as_is_asked(desk):
    desk.write(MORE)
    assert [one.name for one in rehearse(desk, to="003").migrations] == ["003_more"]


def test_one_that_fails_is_told_with_its_place_and_leaves_nothing(desk):
    desk.write(MORE)
    desk.write({"005_bad": "-- Bad.\ncreate table fine (a integer);\ninsert into missing values (1);\n"})
    before, beside = desk.base.content(), copies(desk)
    with pytest.raises(RehearsalFailedError) as failed:
        rehearse(desk)
    assert str(failed.value).startswith(
        "rehearsed on a copy, desk/main: 005_bad failed in statement 2 (line 3): "
    )
    assert failed.value.exit_status == 1
    assert "desk/main is as it was" in failed.value.hint
    assert (desk.base.content(), copies(desk)) == (before, beside)
    assert desk.states()[2:] == ["pending"] * 3


def test_rows_that_would_be_stopped_by_the_guard_are_told_as_that(desk):
    desk.write({"003_less": "-- Less.\ndelete from books;\n"})
    with pytest.raises(
        RehearsalFailedError, match="003_less takes rows away without saying so: books"
    ) as failed:
        rehearse(desk)
    assert "-- dbctl: allow-data-loss" in failed.value.hint
    assert desk.count("books") == 5


def test_a_lint_error_ends_it_with_4_though_it_ran(file):
    text = "-- Up\n-- Notes.\ncreate table notes (a text default '-- down');\n-- Down\ndrop table notes;\n"
    file.write({"003_notes": text})
    told = rehearse(file)
    assert [one.name for one in told.migrations] == ["003_notes"]
    assert [one.code for one in told.findings if one.severity == "error"] == ["marker-hidden"]
    assert told.status == 4


def test_rows_that_point_to_nothing_afterwards_are_an_error(file):
    text = "-- Less.\n-- dbctl: no-transaction\n-- dbctl: allow-data-loss\npragma foreign_keys = off;\ndelete from authors where id = 1;\n"
    file.write({"003_less": text})
    told = rehearse(file)
    assert [(one.severity, one.message) for one in told.findings if one.code == "orphans"] == [
        ("error", "2 rows of books (author) point to nothing in authors")
    ]
    assert told.status == 4
    assert file.count("authors") == 3


def test_a_schema_of_a_database_is_rehearsed_without_the_others(tmp_path):
    folder = tmp_path / "desk"
    folder.mkdir()
    with servers.postgresql_schema() as url:
        desk = deployments.Desk(folder, PostgreSQL(url))
        desk.write(deployments.FIRST)
        desk.up()
        desk.write(MORE)
        before, beside = desk.base.content(), copies(desk)
        assert [(one.table, one.after) for one in rehearse(desk).rows] == [("authors", 4), ("books", 3)]
        assert (desk.base.content(), copies(desk)) == (before, beside)


def test_nothing_pending_copies_nothing(desk):
    told = rehearse(desk)
    assert (told.migrations, told.rows, told.schema, told.findings, told.status) == ([], [], [], [], 0)


def test_what_up_refuses_is_refused(file):
    file.write({"000_late": "-- Late.\nselect 1;\n"})
    with pytest.raises(MigrationsOutOfOrderError):
        rehearse(file)


def test_a_database_that_is_still_to_be_made_is_rehearsed_without_being_made(tmp_path):
    with deployments.settled("sqlite", tmp_path / "new") as desk:
        desk.write(deployments.FIRST)
        told = rehearse(desk)
        assert [(one.table, one.before, one.after) for one in told.rows] == [
            ("authors", None, 3),
            ("books", None, 5),
        ]
        assert copies(desk) == ["dbctl.toml"]


REACHING = {
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


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("place", REACHING)
def test_what_would_reach_the_original_or_its_server_is_refused_also_where_lint_may_not_tell_it(
    tmp_path, place, number
):
    with deployments.settled(place, tmp_path / "desk") as desk:
        desk.write(deployments.FIRST)
        desk.up()
        sql = REACHING[place][number].format(desk.base.own.path)
        desk.write({"003_reach": f"-- dbctl: allow reaches-out\n\n{sql}\n"})
        before, beside = desk.base.content(), copies(desk)
        with pytest.raises(RehearsalRefusedError, match=r"003_reach cannot be rehearsed.*\(line 3\)"):
            rehearse(desk)
        assert (desk.base.content(), copies(desk)) == (before, beside)


def test_who_may_not_make_databases_is_told_the_grant(tmp_path):
    with deployments.settled("postgresql", tmp_path / "desk") as desk:
        desk.write(deployments.FIRST)
        desk.up()
        desk.write(MORE)
        role = f"r_{desk.base.own.path}"
        desk.base.run(f"create role {role} login", f"grant all on all tables in schema public to {role}")
        config = desk.folder / "dbctl.toml"
        config.write_text(config.read_text().replace("postgres@", f"{role}@"))
        try:
            with pytest.raises(PrivilegeMissingError, match="may not create databases") as refused:
                rehearse(desk)
            assert "CREATEDB" in refused.value.hint
            assert folders(desk) == []
        finally:
            desk.base.run(f"drop owned by {role}", f"drop role {role}")


def test_a_disk_without_room_is_told_before_anything_is_copied(file, monkeypatch):
    file.write(MORE)
    usage = shutil.disk_usage(file.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1))
    with pytest.raises(RoomMissingError):
        rehearse(file)
    assert folders(file) == []


def running(desk):
    """Begin a rehearsal that does not end by itself; return its process once it has a copy."""
    desk.write({"003_endless": f"-- Endless.\n{ENDLESS[desk.engine]}\n"})
    before = copies(desk)
    process = subprocess.Popen(
        [sys.executable, "-m", "dbctl", "migrate", "rehearse"],
        cwd=desk.folder,
        env=deployments.CLEAN,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(set(copies(desk)) - set(before)) < 2 and process.poll() is None:
        time.sleep(0.02)
    return process, before


def test_an_interrupted_rehearsal_leaves_neither_a_database_nor_a_file(desk):
    process, before = running(desk)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert copies(desk) == before


def test_a_copy_is_for_nobody_elses_eyes(desk):
    process, _ = running(desk)
    (folder,) = folders(desk)
    modes = [one.stat().st_mode & 0o777 for one in (folder, folder / "copy")]
    process.terminate()
    process.communicate(timeout=60)
    assert modes == [0o700, 0o600]


def test_what_a_killed_rehearsal_left_is_cleared_away_by_the_next(file):
    process, before = running(file)
    process.kill()
    process.communicate(timeout=60)
    assert len(folders(file)) == 1
    (file.folder / "migrations/003_endless.sql").unlink()
    file.write(MORE)
    rehearse(file)
    assert [one for one in copies(file) if one not in before] == []


def test_its_command_answers_with_what_was_run_and_fails_as_up_does(file):
    file.write(MORE)
    told = file.dbctl("migrate", "rehearse")
    assert [one["name"] for one in told["migrations"]] == ["003_more", "004_less"]
    file.write({"005_bad": "-- Bad.\nselect nothing;\n"})
    assert file.dbctl("migrate", "rehearse", status=1)["code"] == "rehearsal-failed"
