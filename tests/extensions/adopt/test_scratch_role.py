"""Foreign dumps are loaded with a scratch role; its objects get the owners of the live database, and the role is dropped."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.config.sections import Selection
from dbctl.errors.backup import FileInvalidError, ForeignDumpRefusedError
from dbctl.errors.base import DbctlError, Exit
from dbctl.services import status
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.checks.run import examine
from tests import hostile, servers
from tests.extensions.adopt.test_files import adopt, apply, verify_files
from tests.extensions.adopt.test_hostile_dumps import POSTGRESQL, QUIETLY
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error

LEFTOVER = "larder_dbctl_new_0badcafe"
USER = "dbctl_new_0badcafe"
SLEEP = {"postgresql": "select pg_catalog.pg_sleep(600);", "mysql": "do sleep(600);"}


pytestmark = pytest.mark.usefixtures("private_temp_dir")


@pytest.fixture(params=["postgresql", "mysql"])
def victim(request):
    return hostile.victim(request.param)


@pytest.fixture
def postgresql():
    return hostile.victim("postgresql")


@pytest.fixture
def mysql():
    return hostile.victim("mysql")


def run(victim, *statements, database=""):
    """Run statements as the administrator; return the rows of the last one."""
    url = structs.replace(victim.server, path=database or victim.server.path)
    if victim.engine == "postgresql":
        with closing(servers.connection(url)) as connection:
            for statement in statements:
                result = connection.execute(statement)
            return result.fetchall() if result.description else []
    with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@contextmanager
def configure_url(victim, **parts):
    """Change parts of the configured URL for the duration of the context."""
    url = servers.text(structs.replace(victim.pantry.own, **parts))
    larder_app.configure(victim.pantry.folder, url)
    try:
        yield
    finally:
        larder_app.configure(victim.pantry.folder, victim.pantry.url)


def find_leftovers(victim):
    selection = Selection(config=str(victim.pantry.path.with_name("dbctl.toml")))
    findings = examine([selection], timeout=5).findings.findings
    return [finding for finding in findings if finding.code == "leftover-files"]


def verify_codes(victim, file):
    return [finding.code for finding in verify_files(victim.pantry.path, file)]


# Harmless dumps -----------------------------------------------------------------------------------------------------

HARMLESS = {
    "postgresql": "create extension if not exists citext with schema public;\n"
    "comment on extension citext is 'text without case';\ncomment on schema public is 'standard public schema';\n"
    "alter table public.members owner to missing_role;\ngrant select on table public.members to missing_role;\n"
    "revoke all on table public.members from public;\n"
    "alter default privileges for role missing_role grant select on tables to public;\n"
    "set session authorization missing_role;\nreset session authorization;\n"
    "create publication all_members for table public.members;\nset default_tablespace = fast_disks;\n",
    "mysql": "SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '202fa3f7-e54f-11f1-abfb-02fc00000001:1-2';\n"
    "LOCK TABLES `members` WRITE;\nUNLOCK TABLES;\nDELIMITER ;;\n"
    "/*!50003 CREATE*/ /*!50017 DEFINER=`missing`@`localhost`*/ /*!50003 TRIGGER harmless BEFORE INSERT ON members\n"
    "FOR EACH ROW BEGIN SET NEW.handle = TRIM(NEW.handle); END */;;\n"
    "CREATE DEFINER=`missing`@`%` PROCEDURE `harmless`()\nBEGIN SELECT 1; END ;;\nDELIMITER ;\n"
    "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`missing`@`localhost` SQL SECURITY DEFINER */\n"
    "/*!50001 VIEW `harmless` AS SELECT `handle` FROM `members` */;\n",
}


@pytest.mark.slow
def test_dump_with_unknown_roles_is_loaded_adopted_and_restored(victim, tmp_path):
    file = hostile.write_dump(victim, tmp_path / "dump.sql", HARMLESS[victim.engine])
    before = victim.pantry.content()
    assert verify_codes(victim, file) == ["file-valid"]
    (adopted,) = adopt(victim.pantry.path, file).adopted
    victim.pantry.change_data()
    promptvault_app.apply_restore(victim.pantry.path, adopted.id)
    assert victim.pantry.content() == before
    hostile.assert_nothing_left(victim)
    if victim.engine == "mysql":  # the tests of less privileged accounts could not restore these objects
        victim.pantry.run("drop view harmless", "drop procedure harmless", "drop trigger harmless")


def test_restored_owners_and_grants_match_live_database(postgresql, tmp_path):
    pantry = postgresql.pantry
    run(postgresql, "drop role if exists larder_reader", "create role larder_reader")
    for table in pantry.tables():
        pantry.run(f'alter table "{table}" owner to larder_app')
    pantry.run(
        "alter table tallies owner to postgres",
        "grant select on members to larder_reader",
        "create function shown() returns int language sql as 'select 1'",
        "revoke all on function shown() from public",
    )
    query = (
        "select c.relname, c.relowner::regrole::text, c.relacl::text from pg_class c where relkind in ('r', 'S')"
        " and relnamespace = 'public'::regnamespace union all select proname, proowner::regrole::text, proacl::text"
        " from pg_proc where pronamespace = 'public'::regnamespace order by 1, 2"
    )
    before = pantry.rows(query)
    evil = (
        "create function public.shown() returns int language sql as 'select 1';"
        "grant all on table public.members to larder_app; grant select on table public.tallies to public;"
    )
    file = hostile.write_dump(postgresql, tmp_path / "dump.sql", evil)
    apply(pantry.path, file)
    assert pantry.rows(query) == before
    assert pantry.rows("select datdba::regrole::text from pg_database where datname = 'larder'") == [
        ("postgres",)
    ]
    pantry.run("drop function shown()")


#: Objects that only a superuser can create, and others of the same kinds.
SUPERUSER_OBJECTS = """create function public.audit() returns event_trigger language plpgsql as $$ begin end $$;
create event trigger audit on ddl_command_end execute function public.audit();
alter event trigger audit disable;
comment on event trigger audit is 'of the dump';
create publication everything for all tables with (publish = 'insert');
comment on publication everything is 'of the dump';
create publication of_members for table public.members;
comment on publication of_members is 'of the dump';
create subscription remote connection 'dbname=neighbour' publication everything with (connect = false);
alter subscription remote enable;
comment on subscription remote is 'of the dump';
"""
OBJECTS = (
    "select 'event trigger', evtname from pg_event_trigger union all select 'publication', pubname from pg_publication"
    " union all select 'subscription', subname from pg_subscription"
    " where subdbid = (select oid from pg_database where datname = current_database())"
)


@pytest.mark.slow
def test_superuser_only_objects_are_omitted_and_reported(postgresql, tmp_path):
    pantry, script = postgresql.pantry, SUPERUSER_OBJECTS
    publications = {"of_members"}
    if int(run(postgresql, "show server_version_num")[0][0]) >= 150_000:
        publications.add("of_schema")
        script += "create publication of_schema;\nalter publication of_schema add tables in schema public;\n"
    file = hostile.write_dump(postgresql, tmp_path / "dump.sql", script)
    before = pantry.content()
    findings = verify_files(pantry.path, file)
    assert {finding.code for finding in findings} == {"maintenance", "file-valid"}
    adopted = adopt(pantry.path, file)
    restored = apply(pantry.path, file)
    for remarks in ([finding.message for finding in findings], adopted.remarks, restored.remarks):
        text = "\n".join(remarks)
        for name in ("event trigger audit", "publication everything", "subscription remote"):
            assert name in text
        assert ("of_schema" in text) is ("of_schema" in publications)
        assert "of_members" not in text
    assert {name for _, name in pantry.rows(OBJECTS)} == publications
    assert pantry.content() == before
    pantry.change_data()
    restored = promptvault_app.apply_restore(pantry.path, adopted.adopted[0].id)
    assert any("event trigger audit" in remark for remark in restored.remarks)
    assert pantry.content() == before
    pantry.run("drop publication of_members", "drop publication if exists of_schema", "drop function audit()")


#: Dumps whose effect depends on the privileges of the administrator.
ADMINISTRATOR_CASES = (
    "create-role",
    "alter-own-role",
    "grant-a-role-of-the-server",
    "grant-own-role",
    "set-role-of-the-administrator",
    "make-own-database-a-template",
    "limit-connections-of-own-database",
    "revoke-from-the-administrator",
    "set-for-own-database",
    "delayed-operator",
)


@pytest.mark.slow
def test_non_superuser_administrator_loads_adopts_and_restores(postgresql, tmp_path):
    pantry = postgresql.pantry
    run(postgresql, "create role keeper login createdb createrole", "grant larder_app to keeper")
    run(postgresql, "alter database larder owner to keeper")
    for table in pantry.tables():
        pantry.run(f'alter table "{table}" owner to larder_app')
    pantry.run("alter schema public owner to larder_app")
    content, harmless_file = pantry.content(), hostile.write_dump(postgresql, tmp_path / "harmless.sql", "")
    with configure_url(postgresql, user="keeper"):
        before = postgresql.read_state()
        assert verify_codes(postgresql, harmless_file) == ["file-valid"]
        for name in ADMINISTRATOR_CASES:
            file = hostile.write_dump(postgresql, tmp_path / f"{name}.sql", POSTGRESQL[name])
            assert verify_codes(postgresql, file)[-1] in ("file-invalid", "file-valid"), name
            hostile.assert_unchanged(postgresql, before)
        (adopted,) = adopt(pantry.path, harmless_file).adopted
        for restore in (
            lambda: apply(pantry.path, harmless_file),
            lambda: promptvault_app.apply_restore(pantry.path, adopted.id),
        ):
            pantry.change_data()
            assert restore().databases[0].strategy == "swapped"
            assert pantry.content() == content
    hostile.assert_nothing_left(postgresql)
    owners = (
        "select distinct relowner::regrole::text from pg_class where relnamespace = 'public'::regnamespace"
    )
    assert pantry.rows(owners) == [("larder_app",)]
    run(postgresql, "reassign owned by keeper to postgres", "drop owned by keeper")
    pantry.run("alter schema public owner to postgres", "drop owned by keeper")
    for (database,) in run(postgresql, "select datname from pg_database where datname ~ '^larder_dbctl_'"):
        run(postgresql, f"drop database {database}")
    run(postgresql, "drop role keeper")


def test_functions_of_dump_never_run_as_superuser(postgresql, tmp_path):
    pantry = postgresql.pantry
    for table in pantry.tables():
        pantry.run(f'alter table "{table}" owner to postgres')
    text = f"{QUIETLY} alter function public.quietly(text) security definer;"
    restored = apply(pantry.path, hostile.write_dump(postgresql, tmp_path / "dump.sql", text))
    assert any("SECURITY INVOKER" in remark for remark in restored.remarks)
    with closing(servers.connection(structs.replace(pantry.own, user="larder_app"))) as app:
        assert app.execute("select public.quietly('create role evil superuser')").fetchall() == [(0,)]
    pantry.run("drop function quietly(text)")


def test_settings_of_dump_are_dropped_with_scratch_role(postgresql, tmp_path):
    text = (
        "do $$ begin execute format('alter database %I set search_path = evil', current_database());"
        " execute format('alter database %I is_template true', current_database()); end $$;"
    )
    before = run(postgresql, "select * from pg_db_role_setting")
    apply(postgresql.pantry.path, hostile.write_dump(postgresql, tmp_path / "dump.sql", text))
    assert run(postgresql, "select * from pg_db_role_setting") == before
    assert run(postgresql, "select datistemplate from pg_database where datname = 'larder'") == [(False,)]


def test_definer_is_always_the_account_of_the_app(mysql, tmp_path):
    text = (
        "create definer=root@localhost trigger evil before insert on members for each row delete from neighbour.keep;"
        "create definer=root@localhost procedure evil() delete from neighbour.keep;"
        "create definer=root@localhost function evil_too() returns int deterministic return 1;"
        "create definer=root@localhost event evil on schedule every 1 second do delete from neighbour.keep;"
        "create definer=root@localhost view z_evil as select handle from members;"
        "create definer=root@localhost view a_evil as select * from z_evil;"
    )
    before, pantry = mysql.read_state()["neighbour"], mysql.pantry
    apply(pantry.path, hostile.write_dump(mysql, tmp_path / "dump.sql", text))
    assert set(
        pantry.rows(
            "select definer from information_schema.triggers where trigger_schema = database()"
            " union all select definer from information_schema.routines where routine_schema = database()"
            " union all select definer from information_schema.events where event_schema = database()"
            " union all select definer from information_schema.views where table_schema = database()"
        )
    ) == {("larder_app@localhost",)}
    time.sleep(1.5)  # an enabled event would run every second
    assert mysql.read_state()["neighbour"] == before
    pantry.run("drop trigger evil", "drop procedure evil", "drop function evil_too", "drop event evil")
    pantry.run("drop view a_evil, z_evil")


def test_backup_folder_of_another_host_is_loaded_as_foreign_dump(victim, tmp_path):
    backup = promptvault_app.create_app_backup(victim.pantry.path)
    folder = promptvault_app.find_backup_folder(victim.pantry.path, backup)
    manifest = backup_manifest.parse((folder / "manifest.json").read_bytes())
    (member,) = manifest.members
    text = f"{victim.honest_dump().rpartition(victim.end)[0]}\n\\! touch {victim.canary}/evil\n{victim.end}".encode()
    (folder / member.file).unlink()
    (folder / "evil.sql.gz").write_bytes(gzip.compress(text))
    from dbctl.files.atomic import hash_blocks

    checksum = hash_blocks([(folder / "evil.sql.gz").read_bytes()])
    evil = structs.replace(
        member,
        file="evil.sql.gz",
        bytes=checksum.bytes,
        sha256=checksum.sha256,
        schema="",
        digests={},
        facts={
            **member.facts,
            "format": "plain",
            "settings": '[["", "search_path=evil"]]',
            "charset": "x; drop",
        },
    )
    other_folder = tmp_path / "elsewhere" / backup.id
    other_folder.parent.mkdir()
    shutil.move(folder, other_folder)
    (other_folder / "manifest.json").write_text(
        backup_manifest.serialize(structs.replace(manifest, members=[evil]))
    )
    before = victim.read_state()
    codes = [finding.code for finding in verify_files(victim.pantry.path, other_folder)]
    assert "file-valid" not in codes
    hostile.assert_unchanged(victim, before)


# Rejected dumps -----------------------------------------------------------------------------------------------------


def test_dump_is_refused_without_privilege_to_create_roles(victim, tmp_path):
    file = hostile.write_dump(victim, tmp_path / "dump.sql", "")
    if victim.engine == "postgresql":
        run(victim, "drop role if exists limited", "create role limited login createdb in role larder_app")
    else:
        run(victim, "drop user if exists limited@localhost", "create user limited@localhost")
        run(victim, "grant all on larder.* to limited@localhost")
        run(victim, r'grant all on "larder\_dbctl\_%".* to limited@localhost')
    before = victim.read_state()
    with configure_url(victim, user="limited"):
        for operation in (verify_files, adopt, apply):
            error = catch_error(DbctlError, lambda operation=operation: operation(victim.pantry.path, file))
            assert isinstance(error, ForeignDumpRefusedError), error
            assert error.exit_status is Exit.REFUSED
            assert "limited" in error.hint
    hostile.assert_unchanged(victim, before)
    run(victim, "drop role limited" if victim.engine == "postgresql" else "drop user limited@localhost")


def test_foreign_dump_is_never_loaded_into_live_database(postgresql, tmp_path):
    file = hostile.write_dump(postgresql, tmp_path / "dump.sql", "")
    postgresql.pantry.run("create schema of_another_app", "create table of_another_app.its (id int)")
    before = postgresql.read_state()
    options = f"{postgresql.pantry.own.options}&schema=public"
    with configure_url(postgresql, options=options):
        error = catch_error(DbctlError, lambda: apply(postgresql.pantry.path, file))
    assert isinstance(error, ForeignDumpRefusedError)
    hostile.assert_unchanged(postgresql, before)
    postgresql.pantry.run("drop schema of_another_app cascade")


def test_hint_for_rejected_function_contains_the_binary_log_setting(mysql, tmp_path):
    text = "create function evil() returns int deterministic return 1;"
    file = hostile.write_dump(mysql, tmp_path / "dump.sql", text)
    ((is_logging,),) = run(mysql, "select @@log_bin")
    ((is_trusting,),) = run(mysql, "select @@log_bin_trust_function_creators")
    run(mysql, "set global log_bin_trust_function_creators = 0")
    try:
        before = mysql.read_state()
        (finding,) = verify_files(mysql.pantry.path, file)
        assert finding.code == ("file-invalid" if is_logging else "file-valid")
        assert ("log_bin_trust_function_creators" in finding.hint) == bool(is_logging)
        hostile.assert_unchanged(mysql, before)
    finally:
        run(mysql, f"set global log_bin_trust_function_creators = {is_trusting}")


def test_libraries_of_dump_replace_live_libraries(mysql, tmp_path):
    pantry = mysql.pantry
    if not servers.server_at(mysql.server).has_libraries:
        text = "create function inner_one() returns int deterministic return 1;"
        text += "create function outer_one() returns int deterministic return inner_one();"
        apply(pantry.path, hostile.write_dump(mysql, tmp_path / "dump.sql", text))
        assert pantry.rows("select outer_one()") == [(1,)]
        pantry.run("drop function inner_one", "drop function outer_one")
        return
    pantry.run("create library old language javascript as $$ export function f(n) { return n } $$")
    text = (
        "create library `its` language javascript\nas $$ export const x = 'DEFINER=`a`@`b`' $$;"
        "create function uses(n int) returns int deterministic language javascript using (its as i) as $$ return n $$;"
    )
    apply(pantry.path, hostile.write_dump(mysql, tmp_path / "dump.sql", text))
    assert pantry.rows(
        "select library_name, library_definition from information_schema.libraries where library_schema = database()"
    ) == [("its", " export const x = 'DEFINER=`a`@`b`' ")]
    query = "select library_schema, library_name from information_schema.routine_libraries where routine_schema = database()"
    assert pantry.rows(query) == [(pantry.own.path, "its")]
    backup = promptvault_app.create_app_backup(pantry.path)
    pantry.run("drop function uses", "drop library its")
    promptvault_app.apply_restore(pantry.path, backup.id)
    assert pantry.rows(query) == [(pantry.own.path, "its")]
    pantry.run("drop function uses", "drop library its")


# Leftovers ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_leftovers_of_killed_load_are_reported_and_removed(victim, tmp_path):
    file = hostile.write_dump(victim, tmp_path / "slow.sql", SLEEP[victim.engine])
    configuration = victim.pantry.path.with_name("dbctl.toml")
    command = [sys.executable, "-m", "dbctl", "--config", configuration, "backup", "verify", file]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while not list_sleeping_sessions(victim):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert find_leftovers(victim) == []  # the database is in use
        finally:
            os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not (findings := find_leftovers(victim)):
        assert time.monotonic() < deadline  # the server ends the session with a delay
        time.sleep(0.05)
    assert victim.list_leftovers()
    selection = Selection(config=str(configuration))
    report = status.collect_status([selection], timeout=5)
    assert report.check is Exit.ACTION_NEEDED
    for finding in findings:
        assert any(finding.message in problem for problem in report.problems)
    assert verify_codes(victim, hostile.write_dump(victim, tmp_path / "good.sql", "")) == ["file-valid"]
    hostile.assert_nothing_left(victim)
    assert find_leftovers(victim) == []


def list_sleeping_sessions(victim):
    """Return the sessions of the scratch role that run the sleep statement."""
    if victim.engine == "postgresql":
        return run(
            victim, "select 1 from pg_stat_activity where usename ~ 'dbctl_new' and query ~ 'pg_sleep'"
        )
    return run(
        victim,
        "select 1 from information_schema.processlist where user like 'dbctl%' and info like '%sleep%'",
    )


def test_role_without_database_is_reported_and_removed(victim, tmp_path):
    name = LEFTOVER if victim.engine == "postgresql" else USER
    run(
        victim,
        f"create role {LEFTOVER} login" if victim.engine == "postgresql" else f"create user {USER}@localhost",
    )
    (finding,) = find_leftovers(victim)
    assert name in finding.message
    assert verify_codes(victim, hostile.write_dump(victim, tmp_path / "good.sql", "")) == ["file-valid"]
    hostile.assert_nothing_left(victim)


def test_role_owning_other_objects_is_removed_with_them(postgresql, tmp_path):
    run(
        postgresql,
        f"create role {LEFTOVER} login",
        "create table its (id int)",
        f"alter table its owner to {LEFTOVER}",
        f"grant select on keep to {LEFTOVER}",
        database="neighbour",
    )
    findings = verify_files(postgresql.pantry.path, hostile.write_dump(postgresql, tmp_path / "good.sql", ""))
    assert [finding.code for finding in findings] == ["maintenance", "file-valid"]
    assert "neighbour" in findings[0].message
    hostile.assert_nothing_left(postgresql)
    run(postgresql, "drop table its", database="neighbour")


def test_undroppable_role_is_reported(postgresql, tmp_path):
    run(postgresql, f"create role {LEFTOVER} login", "create database closed")
    run(postgresql, f"create table its (id int); alter table its owner to {LEFTOVER}", database="closed")
    run(postgresql, "alter database closed allow_connections false")
    findings = verify_files(postgresql.pantry.path, hostile.write_dump(postgresql, tmp_path / "good.sql", ""))
    assert [finding.code for finding in findings] == ["maintenance", "file-valid"]
    assert LEFTOVER in findings[0].message
    assert LEFTOVER in postgresql.list_leftovers()
    run(postgresql, "drop database closed", f"drop role {LEFTOVER}")


def test_undroppable_user_is_reported(mysql, tmp_path):
    run(
        mysql,
        "create user keeper@localhost",
        "grant select, insert on mysql.* to keeper@localhost",  # sufficient to create users, but not to drop them
        "grant all on larder.* to keeper@localhost",
        r'grant all on "larder\_dbctl\_%".* to keeper@localhost with grant option',
    )
    file = hostile.write_dump(mysql, tmp_path / "good.sql", "")
    with configure_url(mysql, user="keeper"):
        findings = verify_files(mysql.pantry.path, file)
    assert [finding.code for finding in findings] == ["maintenance", "file-valid"]
    (user,) = mysql.list_leftovers()
    assert user in findings[0].message
    run(mysql, "drop user keeper@localhost")
    assert verify_codes(mysql, file) == ["file-valid"]  # an account with the privilege drops it
    hostile.assert_nothing_left(mysql)


def test_endless_line_is_rejected_before_memory_is_full(mysql, tmp_path, monkeypatch):
    monkeypatch.setattr("dbctl.engines.mysql.foreign.MAX_LINE_BYTES", 1 << 20)
    file = hostile.write_dump(mysql, tmp_path / "dump.sql", "-- " + "x" * (1 << 23))
    error = catch_error(DbctlError, lambda: apply(mysql.pantry.path, Path(file)))
    assert isinstance(error, FileInvalidError)
