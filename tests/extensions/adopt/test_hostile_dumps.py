"""Verifying or restoring a hostile dump changes nothing outside the scratch database."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing, suppress

import pytest

from dbctl.errors.connection import PrivilegeMissingError
from dbctl.services.restore import preview
from dbctl.services.restore.drill import RunDrills
from dbctl.services.restore.merge import TableSelection
from dbctl.services.restore.tables import RestoreTables
from tests import hostile
from tests.extensions.adopt.test_files import adopt, stage_file, verify_files
from tests.services import larder_app, promptvault_app

#: Size of the rows of a large dump.
LARGE_BYTES = 32_000_000
#: A function that runs a statement and ignores errors.
QUIETLY = """create function public.quietly(text) returns int language plpgsql as $$
begin execute $1; return 1; exception when others then return 0; end $$;
"""
POSTGRESQL = {
    "create-role": "create role evil superuser;",
    "create-role-in-a-block": "do $$ begin execute 'create role evil superuser'; end $$;",
    "create-role-quietly": f"{QUIETLY} select public.quietly('create role evil superuser');",
    "alter-superuser": "alter role postgres password 'evil';",
    "alter-own-role": "alter role current_user superuser;",
    "change-own-password": "alter role current_user password 'evil';",
    "grant-a-role-of-the-server": "do $$ begin execute 'grant pg_read_server_files to ' || current_user; end $$;",
    "grant-own-role": "do $$ begin execute format('grant %I to larder_app', current_user); end $$;",
    "create-database": "commit; create database evil;",
    "drop-database": "commit; drop database neighbour;",
    "rename-database": "commit; alter database neighbour rename to evil;",
    "set-for-a-database": "alter database neighbour set search_path = evil;",
    "make-own-database-a-template": "do $$ begin execute format('alter database %I is_template true', current_database()); end $$;",
    "set-for-own-database": "do $$ begin execute format('alter database %I set search_path = evil', current_database()); end $$;",
    "alter-system": "commit; alter system set log_statement = 'all'; select pg_reload_conf();",
    "copy-to-program": "copy (select 1) to program 'touch {canary}/evil';",
    "copy-to-file": "copy (select 1) to '{canary}/evil';",
    "copy-from-program": "create table public.got (line text); do $$ begin execute 'copy public.got from program ''touch {canary}/evil'''; end $$;",
    "read-a-file": "select pg_read_file('/etc/passwd');",
    "list-a-folder": "select pg_ls_dir('{canary}');",
    "write-a-file": "select pg_catalog.pg_file_write('{canary}/evil', 'x', false);",
    "import-large-object": "select lo_import('{canary}/here');",
    "export-large-object": "select lo_export(lo_from_bytea(0, 'evil'), '{canary}/evil');",
    "extension-of-files": "create extension file_fdw schema public;",
    "extension-that-connects": "create extension dblink schema public; select public.dblink_exec('dbname=neighbour', 'delete from keep');",
    "function-in-c": "create function public.system(cstring) returns int as 'libc.so.6', 'system' language c strict;",
    "function-of-the-server": "create function public.evil() returns text language internal as 'pg_stop_backup';",
    "load-a-library": "load 'auto_explain';",
    "set-role": "set role postgres; create role evil;",
    "set-session": "commit; set session authorization postgres; create role evil;",
    "reset-session": "commit; reset session authorization; reset role; create role evil;",
    "reset-session-quietly": f"{QUIETLY} commit; select public.quietly('reset session authorization'), public.quietly('create role evil');",
    "give-a-function-to-a-superuser": f"{QUIETLY} alter function public.quietly(text) security definer;"
    " do $$ begin execute 'alter function public.quietly(text) owner to postgres'; end $$;",
    "event-trigger": "create function public.evil() returns event_trigger language plpgsql as $$ begin end $$;"
    " create event trigger evil on ddl_command_end execute function public.evil();",
    "end-sessions": "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres';",
    "event-trigger-on-login": "create function public.evil() returns event_trigger language plpgsql as $$ begin end $$;"
    " do $$ begin execute 'create event trigger evil on login execute function public.evil()'; end $$;",
    "publication-of-all-tables": "do $$ begin execute 'create publication evil for all tables'; end $$;",
    "grant-with-options": "do $$ begin execute 'grant postgres to ' || current_user || ' with inherit true, set true'; end $$;",
    "grant-for-a-parameter": "do $$ begin execute 'grant set, alter system on parameter log_statement to public'; end $$;",
    "set-role-of-the-server": "set role pg_read_all_data;",
    "set-role-of-the-administrator": f"{QUIETLY} select public.quietly('set role keeper'), public.quietly('create role evil');",
    "set-for-all-roles": "alter role all set search_path = evil;",
    "load-a-library-at-session-start": "do $$ begin execute 'alter role current_user set session_preload_libraries = auto_explain'; end $$;",
    "limit-connections-of-own-database": "do $$ begin execute format('alter database %I connection limit 0', current_database()); end $$;",
    "close-own-database": "do $$ begin execute format('alter database %I allow_connections false', current_database()); end $$;",
    "revoke-from-the-administrator": "do $$ begin execute format('revoke all on database %I from public', current_database()); end $$;",
    "maintain-the-server": f"{QUIETLY} select public.quietly('alter table pg_catalog.pg_authid owner to ' || current_user),"
    " public.quietly('reindex table pg_catalog.pg_authid'), public.quietly('grant pg_maintain to public');",
    "statistics-of-the-server": "select pg_clear_relation_stats('pg_catalog', 'pg_authid');",
    "language-of-the-system": "create language plpython3u;",
    "access-method": "create access method evil type table handler heap_tableam_handler;",
    "lock-the-server": "begin; lock table pg_catalog.pg_authid in access exclusive mode;",
    "backup-of-the-server": "do $$ begin execute 'select pg_backup_start(''evil'')'; end $$;",
    "tablespace": "commit; create tablespace evil location '{canary}';",
    "subscription": "do $$ begin execute 'create subscription evil connection ''dbname=neighbour'' publication evil with (connect = false)'; end $$;",
    "slot": "select pg_create_physical_replication_slot('evil');",
    "replica-settings": "set session_replication_role = replica;",
    "catalog": "update pg_catalog.pg_authid set rolsuper = true;",
    "comment-on-a-role": "comment on role postgres is 'evil';",
    "comment-on-a-database": "comment on database neighbour is 'evil';",
    "delayed-check": f"{QUIETLY} alter table public.members add check (public.quietly('create role evil superuser') >= 0);",
    "delayed-index": f"{QUIETLY} create function public.acts(text) returns int language sql immutable"
    " as $$ select public.quietly('create role evil superuser') $$; create index on public.members (public.acts(handle));",
    "delayed-policy": f"{QUIETLY} alter table public.members enable row level security, force row level security;"
    " create policy evil on public.members using (public.quietly('create role evil superuser') >= 0);",
    "delayed-operator": f"{QUIETLY} create function public.equal(name, text) returns bool language sql as"
    " $$ select public.quietly('create role evil superuser') = 0 $$;"
    " create operator public.= (leftarg = name, rightarg = text, function = public.equal);"
    " create function public.count(int) returns int language sql as $$ select public.quietly('create role evil superuser') $$;",
    "delayed-column-default": f"{QUIETLY} alter table public.members add column evil int default public.quietly('create role evil superuser');",
    "restart": "select pg_promote(); select pg_switch_wal();",
    "shell": "\\! touch {canary}/evil",
    "copy-of-the-client": "\\copy public.members to '{canary}/evil'",
    "connect": "\\connect neighbour\ndelete from keep;",
    "output-of-the-client": "\\o {canary}/evil\nselect 1;",
    "second-transaction": "commit; begin; create table public.more (id int); rollback; create table public.more (id int);",
}
MYSQL = {
    "drop-table": "drop table neighbour.keep;",
    "drop-database": "drop database neighbour;",
    "versioned-comment": "/*!50000 drop table neighbour.keep */;",
    "comment-of-mariadb": "/*M!100000 drop table neighbour.keep */;",
    "use": "use neighbour;\ndrop table keep;",
    "use-in-a-comment": "/*!50000 use neighbour */;\ndrop table keep;",
    "prepared": "set @x = 'drop table neighbour.keep'; prepare p from @x; execute p;",
    "execute-immediate": "execute immediate 'drop table neighbour.keep';",
    "create-database": "create database evil;",
    "create-user": "create user evil@'%' identified by 'evil';",
    "grant": "grant all on *.* to larder_app@localhost;",
    "grant-own-role": "grant all on *.* to current_user();",
    "create-role": "create role evil;",
    "set-password": "set password for root@localhost = password('evil');",
    "change-own-password": "set password = password('evil');",
    "set-global": "set global max_connections = 7;",
    "set-global-in-a-comment": "/*!50000 set @@global.max_connections = 7 */;",
    "outfile": "select 1 into outfile '{canary}/evil';",
    "dumpfile": "select 'evil' into dumpfile '{canary}/evil';",
    "load-a-file": "create table got (line text); load data infile '{canary}/here' into table got;",
    "load-a-file-of-the-client": "create table got (line text); load data local infile '{canary}/here' into table got;",
    "read-a-file": "create table got as select load_file('{canary}/here') as line;",
    "event": "create event evil on schedule every 1 second do delete from neighbour.keep;",
    "event-of-root": "create definer=root@localhost event evil on schedule every 1 second do delete from neighbour.keep;",
    "trigger-of-root": "create definer=root@localhost trigger evil before insert on members for each row"
    " delete from neighbour.keep; insert into members (handle) values ('evil');",
    "procedure-of-root": "create definer=root@localhost procedure evil() delete from neighbour.keep; call evil();",
    "view-of-root": "create definer=root@localhost view evil as select * from neighbour.keep; delete from evil;",
    "plugin": "install soname 'ha_blackhole';",
    "function-of-a-library": "create function evil returns integer soname 'evil.so';",
    "server": "create server evil foreign data wrapper mysql options (host '127.0.0.1', database 'neighbour');",
    "federated": "create table evil (id int) engine=federated connection='mysql://root@localhost/neighbour/keep';",
    "lock-tables": "lock tables neighbour.keep write;",
    "handler": "handler neighbour.keep open; handler neighbour.keep read first;",
    "rename-table": "rename table neighbour.keep to evil;",
    "rename-into": "create table evil (id int); rename table evil to neighbour.evil;",
    "merge-table": "create table evil (id int primary key, text text) engine=merge union=(neighbour.keep) insert_method=last;",
    "data-directory": "create table evil (id int) engine=myisam data directory='{canary}';",
    "foreign-key": "create table evil (id int primary key, foreign key (id) references neighbour.keep (id) on delete cascade);",
    "kill": "kill 1;",
    "kill-user": "kill user root;",
    "shutdown": "shutdown;",
    "flush": "flush tables with read lock;",
    "prepared-transaction": "create table evil (id int primary key) engine=innodb; xa start 'evil';"
    " insert into evil values (1); xa end 'evil'; xa prepare 'evil';",
    "binary-log": "reset master;",
    "write-a-system-table": "insert into mysql.func values ('evil', 0, 'evil.so', 'function');",
    "delimiter": "delimiter //\ndrop table neighbour.keep//\ndelimiter ;",
    "shell": "\\! touch {canary}/evil",
    "shell-after-a-statement": "select 1; \\! touch {canary}/evil",
    "system": "system touch {canary}/evil",
    "tee": "tee {canary}/evil",
    "source": "source {canary}/here",
    "sandbox": "/*M!999999\\- enable the sandbox mode */\n\\! touch {canary}/evil",
}

#: Statements appended to a dump of ``sqlite3``; ``{other}`` is the path of another database.
SQLITE = {
    "attach": "ATTACH '{other}' AS other; DELETE FROM other.keep;",
    "attach-by-uri": "ATTACH 'file:{other}?mode=rwc' AS other; DELETE FROM other.keep;",
    "vacuum-into": "VACUUM INTO '{canary}/evil';",
    "load-extension": "SELECT load_extension('{canary}/evil.so');",
    "write-a-file": "SELECT writefile('{canary}/evil', 'evil');",
    "read-a-file": "CREATE TABLE got AS SELECT readfile('{canary}/here') AS text;",
    "edit": "SELECT edit('x', 'touch {canary}/evil');",
    "write-the-schema": "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = 'evil'; PRAGMA writable_schema=OFF;",
    "temporary-folder": "PRAGMA temp_store_directory = '{canary}';",
    "delayed-trigger": "CREATE TRIGGER evil AFTER INSERT ON members BEGIN SELECT load_extension('evil'); END;",
    "delayed-view": "CREATE VIEW evil AS SELECT writefile('{canary}/evil', 'evil');",
    "delayed-check": "CREATE TABLE evil (x CHECK (load_extension('evil')));",
    "file-as-a-table": "CREATE VIRTUAL TABLE evil USING csv(filename='/etc/passwd');",
    "shell": ".shell touch {canary}/evil",
    "output": ".output {canary}/evil",
}


pytestmark = pytest.mark.usefixtures("private_temp_dir")


def try_dump(engine, tmp_path, statements):
    """Add statements to a harmless dump, and verify it; return the codes of the findings."""
    victim = hostile.victim(engine)
    file = hostile.write_dump(victim, tmp_path / "dump.sql", statements)
    before = victim.read_state()
    codes = [finding.code for finding in verify_files(victim.pantry.path, file)]
    hostile.assert_unchanged(victim, before)
    return codes


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_harmless_dump_is_loaded_for_trial(engine, tmp_path):
    assert try_dump(engine, tmp_path, "") == ["file-valid"]


@pytest.mark.parametrize(
    ("engine", "statement", "has_way"),
    [
        ("postgresql", POSTGRESQL["create-role"], False),
        ("postgresql", POSTGRESQL["extension-of-files"], True),
        ("mysql", MYSQL["drop-table"], False),
    ],
)
def test_hint_of_rejected_dump_names_a_way_if_there_is_one(engine, statement, has_way, tmp_path):
    victim = hostile.victim(engine)
    file = hostile.write_dump(victim, tmp_path / "dump.sql", statement)
    (finding,) = verify_files(victim.pantry.path, file)
    assert finding.code == "file-invalid"
    assert "recover" not in finding.hint
    assert ("Install untrusted extensions" in finding.hint) == has_way


@pytest.mark.parametrize("name", POSTGRESQL)
def test_hostile_postgresql_dump_changes_only_scratch_database(name, tmp_path):
    assert try_dump("postgresql", tmp_path, POSTGRESQL[name])[-1] in (
        "file-not-restorable",
        "file-invalid",
        "file-valid",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MYSQL)
def test_hostile_mysql_dump_changes_only_scratch_database(name, tmp_path):
    assert try_dump("mysql", tmp_path, MYSQL[name])[0] in (
        "file-not-restorable",
        "file-invalid",
        "file-valid",
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_hostile_last_line_of_a_large_dump_is_rejected_with_little_memory(engine, tmp_path):
    row, rows_per_insert = "x" * 1000, 1000
    if engine == "postgresql":
        rows = f"{row}\n" * (LARGE_BYTES // len(row))
        text = "create table public.bulk (text text);\n--\n-- Data for Name: bulk; Type: TABLE DATA; Schema: public\n--\n\n"
        text += f"COPY public.bulk (text) FROM stdin;\n{rows}\\.\n"
        text += POSTGRESQL["create-role"]
    else:
        values = ",".join([f"('{row}')"] * rows_per_insert)
        inserts = f"insert into bulk values {values};\n" * (LARGE_BYTES // len(values))
        text = f"create table bulk (text text);\n{inserts}" + MYSQL["drop-table"]
    victim = hostile.victim(engine)
    file = hostile.write_dump(victim, tmp_path / "dump.sql", text)
    before = victim.read_state()
    tracemalloc.start()
    try:
        codes = [finding.code for finding in verify_files(victim.pantry.path, file)]
        _current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert codes == ["file-invalid"], peak
    assert peak < LARGE_BYTES * 0.6  # blocks of at most 16 MiB
    hostile.assert_unchanged(victim, before)


@pytest.mark.parametrize("name", SQLITE)
def test_hostile_sqlite_dump_changes_only_scratch_database(name, tmp_path):
    other, canary, dump = tmp_path / "other.db", tmp_path / "canary", tmp_path / "dump.sql"
    canary.mkdir()
    (canary / "here").write_text("unchanged")
    with larder_app.open_pantry("sqlite", tmp_path / "app") as pantry:
        with closing(sqlite3.connect(other)) as connection, connection:
            connection.execute("create table keep (id)")
            connection.execute("insert into keep values (1)")
        with closing(sqlite3.connect(pantry.path)) as live:
            *statements, end = live.iterdump()
        statement = SQLITE[name].format(other=other, canary=canary)
        dump.write_text("\n".join(["PRAGMA foreign_keys=OFF;", *statements, statement, end]) + "\n")
        dump.chmod(0o600)
        before, other_before = pantry.content(), other.read_bytes()
        assert next(finding.code for finding in verify_files(pantry.path, dump)) in (
            "file-invalid",
            "file-valid",
        )
        assert (pantry.content(), other.read_bytes()) == (before, other_before)
    assert [path.name for path in canary.iterdir()] == ["here"]


#: Statements whose effect is delayed until another role reads the scratch database.
DELAYED_CASES = {
    "postgresql": "delayed-check delayed-policy delayed-operator delayed-column-default",
    "mysql": "event event-of-root",
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", DELAYED_CASES)
def test_hostile_dump_is_harmless_on_every_load_path(engine, tmp_path):
    victim = hostile.victim(engine)
    cases = POSTGRESQL if engine == "postgresql" else MYSQL
    statements = list(dict.fromkeys(cases[name] for name in DELAYED_CASES[engine].split()))
    text = "\n".join(statement.replace(QUIETLY, "") for statement in statements)
    text = QUIETLY + text if engine == "postgresql" else statements[0]
    file = hostile.write_dump(victim, tmp_path / "dump.sql", text)
    before = victim.read_state()
    with stage_file(victim.pantry.path, file) as (_app, scratch, backup):
        source = promptvault_app.open_source(scratch, backup.manifest)
        preview.preview(source, deep=True)
        selection = TableSelection(tables=["members"], merge="missing")
        with suppress(PrivilegeMissingError):  # a policy of the dump hides its rows
            RestoreTables(source, selection).apply()
    adopt(victim.pantry.path, file)
    assert not promptvault_app.verify_backups(victim.pantry.path).has_errors
    with promptvault_app.open_repository(victim.pantry.path) as (app, _repository):
        RunDrills([app], promptvault_app.create_keys).apply()
    hostile.assert_unchanged(victim, before)
