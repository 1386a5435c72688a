"""Foreign dumps of PostgreSQL and MySQL are restored like backups; client commands in them are rejected."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from contextlib import closing
from functools import partial

import pytest
from msgspec import structs

from dbctl.engines.mysql import dump_programs
from dbctl.engines.postgresql.dump_statements import PsqlCommandError, PsqlScanner
from dbctl.engines.sql.catalog import ident
from dbctl.errors.backup import (
    BackupPartialError,
    FileInvalidError,
    FileNotRestorableError,
    RestoreFailedError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import WrongAppError
from dbctl.extensions.adopt.mysql import import_dump
from dbctl.services.restore.copy import CopyRestore
from dbctl.services.restore.merge import TableSelection
from dbctl.services.restore.preview import preview
from dbctl.services.restore.tables import RestoreTables
from tests import servers
from tests.extensions.adopt.test_files import adopt, apply, find_backups, stage_file, verify_files
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("private_temp_dir")]


@pytest.fixture
def foreign_dir(tmp_path):
    (tmp_path / "foreign").mkdir()
    return tmp_path / "foreign"


@pytest.fixture(params=["postgresql", "mysql"])
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


@pytest.fixture
def postgresql_pantry(tmp_path):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as app:
        yield app


@pytest.fixture
def mysql_pantry(tmp_path):
    with larder_app.open_pantry("mysql", tmp_path / "app") as app:
        yield app


def pg_dump(pantry, destination, *options):
    url = pantry.own
    server = ["-h", url.host or "127.0.0.1", "-p", str(url.port or 5432), "-U", url.user]
    subprocess.run([servers.client("pg_dump"), *server, *options, "-f", destination, url.path], check=True)
    return destination


def mysqldump(pantry, destination, *options):
    url = pantry.own
    password = {"MYSQL_PWD": url.password.reveal()} if url.password else {}
    argv = [
        dump_programs.PROGRAMS[servers.mysql_server().product]["dump"],
        "-h",
        url.host or "127.0.0.1",
        "-P",
        str(url.port or 3306),
        "-u",
        url.user,
        "--routines",
        *options,
        url.path,
    ]
    with destination.open("wb") as file:
        subprocess.run(argv, stdout=file, env={**os.environ, **password}, check=True)
    return destination


def write_all_formats(pantry, folder):
    """Write a dump in every supported format."""
    if pantry.engine == "mysql":
        plain = mysqldump(pantry, folder / "backup_20260105_030000.sql")
        mysqldump(pantry, folder / "databases_20260105.sql", "--databases")
    else:
        plain = pg_dump(pantry, folder / "backup_20260105_030000.sql")
        pg_dump(pantry, folder / "pantry.dump", "-Fc")
        pg_dump(pantry, folder / "pantry.tar", "-Ft")
    subprocess.run(["gzip", "-k", plain], check=True)
    subprocess.run(["zstd", "-qk", plain], check=True)
    return sorted(folder.iterdir())


def test_dump_of_every_format_is_restored_and_undone(pantry, foreign_dir):
    before = pantry.content()
    for file in write_all_formats(pantry, foreign_dir):
        pantry.change_data()
        changed_content = pantry.content()
        assert apply(pantry.path, file).databases[0].strategy == "swapped"
        assert pantry.content() == before, file.name
    promptvault_app.undo_restore(pantry.path)
    assert pantry.content() == changed_content


#: Options with which the programs write no comments; their last statement shows that a dump is complete.
WITHOUT_COMMENTS = [
    ("--skip-comments",),
    ("--skip-comments", "--skip-extended-insert", "--skip-add-locks", "--skip-disable-keys"),
    ("--skip-comments", "--skip-add-drop-table", "--complete-insert"),
]


@pytest.mark.parametrize("options", WITHOUT_COMMENTS, ids=range(len(WITHOUT_COMMENTS)))
def test_dump_without_comments_is_restored_and_counted(mysql_pantry, foreign_dir, options):
    pantry = mysql_pantry
    pantry.run(
        "create table `a``b` (id int primary key, text varchar(60))",
        "create table log (line text)",
        r"insert into `a``b` values (1, '-- Dump completed'), (2, 'x\n/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n('), (3, ';')",
        "create view shown as select * from `a``b`",
        "create trigger cut before insert on log for each row set new.line = trim(new.line)",
        "create procedure add_row() begin\n-- Dump completed\nINSERT INTO `a``b` VALUES (9, 'x');\nend",
    )
    before = pantry.content()
    file = mysqldump(pantry, foreign_dir / "backup.sql", *options)
    assert file.read_bytes().count(b"\n-- ") == 1
    with stage_file(pantry.path, file) as (_app, _overlay, staged):
        (member,) = staged.manifest.members
        assert member.rows == {name: len(rows) for name, rows in before.items() if name != "shown"}
    (finding,) = verify_files(pantry.path, file)
    assert finding.message.endswith("; loaded for trial")
    pantry.change_data()
    pantry.run("drop view shown", "drop table log, `a``b`")
    apply(pantry.path, file)
    assert pantry.content() == before


def test_dump_without_comments_is_refused_if_it_is_cut(mysql_pantry, foreign_dir):
    pantry = mysql_pantry
    before, file = pantry.content(), foreign_dir / "backup.sql"
    complete = mysqldump(pantry, foreign_dir / "complete.sql", "--skip-comments").read_bytes().rstrip()
    insert = complete.rindex(b"INSERT INTO")
    for end in (complete.rindex(b"\n"), complete.index(b";", insert) + 2, insert + 30, len(complete) - 1):
        file.write_bytes(complete[:end])
        error = catch_error(FileInvalidError, lambda: apply(pantry.path, file))
        assert "end is missing" in str(error) or "truncated" in str(error), end
    assert pantry.content() == before


@pytest.mark.parametrize("options", [("--compact",), ("--compact", "--add-drop-table")], ids=range(2))
def test_compact_dump_is_refused_with_what_to_do(mysql_pantry, foreign_dir, options):
    file = mysqldump(mysql_pantry, foreign_dir / "backup.sql", *options)
    error = catch_error(FileNotRestorableError, lambda: apply(mysql_pantry.path, file))
    assert "--compact" in str(error)
    assert "Dump it again" in error.hint


def test_dump_without_rows_is_refused_with_what_to_do(pantry, foreign_dir):
    before, file = pantry.content(), foreign_dir / "backup.sql"
    if pantry.engine == "mysql":
        mysqldump(pantry, file, "--no-data")
    else:
        pg_dump(pantry, file, "--schema-only")
    for attempt in (partial(apply, pantry.path, file), partial(adopt, pantry.path, file)):
        error = catch_error(FileNotRestorableError, attempt)
        assert ("rows" in str(error), "Dump it again" in error.hint) == (True, True)
    assert pantry.content() == before


def test_dump_without_tables_is_refused_with_what_to_do(pantry, foreign_dir):
    before, file = pantry.content(), foreign_dir / "backup.sql"
    if pantry.engine == "mysql":
        mysqldump(pantry, file, "--no-create-info")
    else:
        pg_dump(pantry, file, "--data-only")
    for attempt in (partial(apply, pantry.path, file), partial(adopt, pantry.path, file)):
        error = catch_error(FileNotRestorableError, attempt)
        assert ("lacks the" in str(error), "Dump it again" in error.hint) == (True, True)
    assert pantry.content() == before


def test_hint_for_dump_with_line_ends_of_windows_converts_it(pantry, foreign_dir):
    before, file = pantry.content(), write_all_formats(pantry, foreign_dir)[0]
    plain = file.read_bytes()
    file.write_bytes(plain.replace(b"\n", b"\r\n"))
    error = catch_error(FileNotRestorableError, lambda: adopt(pantry.path, file))
    assert "CR LF" in str(error)
    (command,) = re.findall("sed 's.*", error.hint)
    subprocess.run(["sh", "-c", command.replace("FILE", file.name)], cwd=foreign_dir, check=True)
    assert (foreign_dir / "dump.sql").read_bytes() == plain
    pantry.change_data()
    apply(pantry.path, foreign_dir / "dump.sql")
    assert pantry.content() == before


def test_dump_of_newer_server_is_adopted_without_being_loaded(pantry, foreign_dir):
    file = write_all_formats(pantry, foreign_dir)[0]
    versions = {
        "mysql": (rb"(-- Server version\s+)\d+\.\d+", rb"\g<1>99.1"),
        "postgresql": (rb"(-- Dumped from database version )\d+", rb"\g<1>99"),
    }
    file.write_bytes(re.sub(*versions[pantry.engine], file.read_bytes()))
    result = adopt(pantry.path, file)
    assert result.adopted
    assert ("not loaded for trial" in str(result), "5.5.5-" in str(result)) == (True, False)
    error = catch_error(RestoreFailedError, lambda: apply(pantry.path, file))
    assert "99" in str(error)


def test_dump_whose_header_was_removed_is_restored(postgresql_pantry, foreign_dir):
    pantry = postgresql_pantry
    before = pantry.content()
    text = pg_dump(pantry, foreign_dir / "backup.sql").read_bytes()
    header, first, rest = text.partition(b"SET statement_timeout")
    assert b"PostgreSQL database dump" in header
    (foreign_dir / "backup.sql").write_bytes(first + rest)
    pantry.change_data()
    apply(pantry.path, foreign_dir / "backup.sql")
    assert pantry.content() == before
    lines = [line for line in text.split(b"\n") if not line.startswith(b"--")]
    (foreign_dir / "backup.sql").write_bytes(b"\n".join(lines))
    error = catch_error(FileNotRestorableError, lambda: apply(pantry.path, foreign_dir / "backup.sql"))
    assert "comments were removed" in str(error)
    assert "Dump it again" in error.hint


def test_dump_without_table_rows_restores_empty_table(postgresql_pantry, tmp_path):
    pantry = postgresql_pantry
    pantry.run("create table log (line text)", "insert into log values ('x')")
    before = pantry.content()
    file = pg_dump(pantry, tmp_path / "backup.sql", "--exclude-table-data=log")
    pantry.change_data()
    apply(pantry.path, file)
    assert pantry.content() == {**before, "log": []}


def test_dump_is_loaded_for_trial_and_adopted(pantry, foreign_dir):
    before = pantry.content()
    file = write_all_formats(pantry, foreign_dir)[0]
    (finding,) = verify_files(pantry.path, file)
    assert (finding.code, finding.target) == ("file-valid", "larder/pantry")
    assert finding.message.endswith("; loaded for trial")
    (adopted,) = adopt(pantry.path, file).adopted
    assert adopted.databases == ["pantry"]
    assert adopted.members[0].schema
    assert promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path)) == []
    file.unlink()
    pantry.change_data()
    promptvault_app.apply_restore(pantry.path, adopted.id)
    assert pantry.content() == before


def test_directory_dump_is_rejected_with_conversion_command(postgresql_pantry, foreign_dir):
    before, folder = postgresql_pantry.content(), pg_dump(postgresql_pantry, foreign_dir / "pantry", "-Fd")
    for path in (folder, folder / "toc.dat"):
        error = catch_error(DbctlError, lambda path=path: adopt(postgresql_pantry.path, path))
        assert isinstance(error, FileNotRestorableError)
        assert "pg_restore --file=" in error.hint
    text = foreign_dir / "dump.sql"
    subprocess.run([servers.client("pg_restore"), f"--file={text}", folder], check=True)
    text.chmod(0o600)
    postgresql_pantry.change_data()
    apply(postgresql_pantry.path, text)
    assert postgresql_pantry.content() == before


def test_large_objects_of_archive_are_restored(postgresql_pantry, foreign_dir):
    postgresql_pantry.run("select lo_from_bytea(4242, 'first'), lo_from_bytea(4243, 'second')")
    for form in ("-Fc", "-Ft"):
        file = pg_dump(postgresql_pantry, foreign_dir / f"pantry{form}", form)
        postgresql_pantry.run("select lo_unlink(4242), lo_put(4243, 0, 'other!')")
        (finding,) = verify_files(postgresql_pantry.path, file)
        assert finding.code == "file-valid"
        apply(postgresql_pantry.path, file)
        assert postgresql_pantry.rows("select lo_get(4242), lo_get(4243)") == [(b"first", b"second")]


def test_truncated_archive_is_rejected(postgresql_pantry, foreign_dir):
    before = postgresql_pantry.content()
    for form in ("-Fc", "-Ft"):
        complete = pg_dump(postgresql_pantry, foreign_dir / f"pantry{form}", form).read_bytes()
        for end in (600, len(complete) // 2, len(complete) * 9 // 10):
            cut = foreign_dir / "cut"
            cut.write_bytes(complete[:end])
            assert isinstance(
                catch_error(DbctlError, lambda cut=cut: apply(postgresql_pantry.path, cut)), FileInvalidError
            )
    assert postgresql_pantry.content() == before


def test_dumps_are_listed_with_their_database(pantry):
    folder = pantry.folder / "backups"
    folder.mkdir(mode=0o700)
    files = write_all_formats(pantry, folder)
    backups = find_backups(pantry.path)
    assert sorted(backup.path for backup in backups) == [str(backup) for backup in files]
    assert {tuple(backup.databases) for backup in backups} == {("pantry",)}


def test_truncated_dump_is_rejected(pantry, foreign_dir):
    text = write_all_formats(pantry, foreign_dir)[0].read_bytes().rstrip()
    before = pantry.content()
    in_a_string = text.index(b"'") + 2
    for end in (in_a_string, *(len(text) * percentage // 100 for percentage in (30, 60, 90, 99))):
        cut = foreign_dir / "cut.sql"
        cut.write_bytes(text[:end])
        assert isinstance(
            catch_error(DbctlError, lambda cut=cut: apply(pantry.path, cut)), FileInvalidError
        ), end
    assert pantry.content() == before


def dump_some_tables(pantry, file, without, only):
    if pantry.engine == "mysql":
        return mysqldump(pantry, file, "--ignore-table", f"{pantry.own.path}.{without}")
    return pg_dump(pantry, file, *(word for name in only for word in ("-t", name)))


def test_partial_dump_restores_tables_but_no_database(pantry, foreign_dir):
    file = dump_some_tables(pantry, foreign_dir / "some.sql", "options", ["members"])
    before = pantry.content()
    error = catch_error(DbctlError, lambda: apply(pantry.path, file))
    assert isinstance(error, BackupPartialError)
    assert f"--file {file} --table" in error.hint
    (finding,) = verify_files(pantry.path, file)
    assert (finding.code, finding.message.endswith("; loaded for trial")) == ("file-valid", True)
    pantry.run("update members set mail = handle || '@changed.example'")
    selection = TableSelection(tables=["members"], merge="replace")
    with stage_file(pantry.path, file) as (_app, overlay, staged):
        RestoreTables(promptvault_app.open_source(overlay, staged.manifest), selection).apply()
    assert pantry.content()["members"] == before["members"]
    (adopted,) = adopt(pantry.path, file).adopted
    assert (adopted.kind, adopted.databases) == ("partial", ["pantry"])
    pantry.run("update members set mail = handle || '@changed.example'")
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        manifest = repository.find(adopted.id)
        RestoreTables(promptvault_app.open_source(repository, manifest), selection).apply()
    assert pantry.content()["members"] == before["members"]


def test_dump_of_unknown_tables_is_rejected(pantry, foreign_dir):
    pantry.run("create table unrelated (id int primary key)", "insert into unrelated values (1)")
    file = dump_some_tables(pantry, foreign_dir / "some.sql", "options", ["unrelated"])
    pantry.run("drop table unrelated")
    assert isinstance(catch_error(DbctlError, lambda: apply(pantry.path, file)), WrongAppError)


def test_schema_of_foreign_dump_is_compared_after_restore(pantry, foreign_dir):
    file = write_all_formats(pantry, foreign_dir)[0]
    with stage_file(pantry.path, file) as (_app, overlay, staged):
        comparison = preview(promptvault_app.open_source(overlay, staged.manifest))
        assert [database.schema for database in comparison.databases] == ["unknown"]
    assert "schema-changed" not in [finding.code for finding in apply(pantry.path, file).findings]
    pantry.run("create table new_table (id int primary key)")
    assert "schema-changed" in [finding.code for finding in apply(pantry.path, file).findings]


def test_foreign_dump_is_copied_to_new_database(postgresql_pantry, foreign_dir):
    before = postgresql_pantry.content()
    file = write_all_formats(postgresql_pantry, foreign_dir)[0]
    url = structs.replace(postgresql_pantry.own, path=f"{postgresql_pantry.own.path}_copy")
    with stage_file(postgresql_pantry.path, file) as (_app, overlay, staged):
        for replace in (False, True):
            source = promptvault_app.open_source(overlay, staged.manifest)
            operation = CopyRestore(source, {"pantry": url}, replace=replace)
            assert operation.apply().databases[0].tables == len(before)
    with closing(servers.connection(servers.postgresql())) as connection:
        connection.execute(f"drop database {ident(url.path)}")


@pytest.mark.parametrize(
    "rows", ["copy options from stdin;\n\\.\n", "COPY public.options FROM stdin;\n\\.\n"]
)
def test_copy_format_of_other_programs_is_rejected(postgresql_pantry, foreign_dir, rows):
    file = foreign_dir / "pre8.sql"
    file.write_text(
        f"--\n-- PostgreSQL database dump\n--\n\n{rows}\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
    error = catch_error(DbctlError, lambda: apply(postgresql_pantry.path, file))
    assert isinstance(error, FileNotRestorableError)


def test_dump_without_a_live_table_has_a_remark(pantry, foreign_dir):
    file = dump_some_tables(
        pantry, foreign_dir / "some.sql", "tallies", sorted({*pantry.tables()} - {"tallies"})
    )
    with stage_file(pantry.path, file) as (_app, _overlay, staged):
        assert staged.remarks == [f"{file} lacks tables of larder/pantry: tallies"]


def test_dump_of_another_engine_is_rejected(postgresql_pantry, foreign_dir, tmp_path_factory):
    file = pg_dump(postgresql_pantry, foreign_dir / "backup.sql")
    folder = tmp_path_factory.mktemp("other") / "app"
    with larder_app.open_pantry("sqlite", folder) as other:
        error = catch_error(DbctlError, lambda: apply(other.path, file))
    assert isinstance(error, FileNotRestorableError)
    assert "its engine is PostgreSQL" in str(error)


def test_dump_with_create_or_inserts_is_rejected_with_hint(postgresql_pantry, foreign_dir):
    for options in (["--create"], ["--inserts"]):
        file = pg_dump(postgresql_pantry, foreign_dir / "backup.sql", *options)
        error = catch_error(DbctlError, lambda file=file: apply(postgresql_pantry.path, file))
        assert isinstance(error, FileNotRestorableError)
        assert "pg_dump -Fc" in error.hint


#: psql commands, hidden from simple parsers.
HOSTILE = [
    "\\! touch {evil}",
    "\\copy members to '{evil}'",
    "select 1 \\g {evil}",
    "select (;\nCOPY public.members (id) FROM stdin;\n\\! touch {evil}\n\\.\n",
    "select (;\nCOPY public.members (id) FROM stdin;\n'\n\\.\n'\n\\! touch {evil}\n",
    "create function x() returns int begin atomic select 1;\nCOPY public.members (id) FROM stdin;\n'\n\\.\n' \\! touch {evil}\n",
    "copy/**/public.members from stdin with (format csv);\n'\n\\.\n\\! touch {evil}\n",
    "set standard_conforming_strings = off; select 'a\\'; \\! touch {evil}\n';",
    "select 1E'\\'; \\! touch {evil}\n';",
    "/* /* */ \\! still a comment */ \\! touch {evil}",
    "select $a$ $b$ $a$ \\! touch {evil}",
    'select "\\" \\! touch {evil}',
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_psql_commands_in_dump_are_rejected(postgresql_pantry, foreign_dir, hostile):
    evil = foreign_dir / "evil"
    text = pg_dump(postgresql_pantry, foreign_dir / "good.sql").read_text()
    position = text.index("CREATE TABLE")
    file = foreign_dir / "backup.sql"
    file.write_text(f"{text[:position]}{hostile.format(evil=evil)}\n{text[position:]}")
    error = catch_error(DbctlError, lambda: apply(postgresql_pantry.path, file))
    assert isinstance(error, FileNotRestorableError), error
    assert not evil.exists()


def test_special_characters_in_rows_and_functions_are_restored(postgresql_pantry, foreign_dir):
    postgresql_pantry.run(
        "create table odd (text text)",
        r"""insert into odd values (E'\\! ls'), (E'a\tb\nc\\d\re\b\f\v'), (''''), ('$$'), ('\.'), (null), ('--'), (';(')""",
        r"create function pattern() returns text language sql as $body$ select '^\d+\s\w \! ls' $body$",
        r"alter table odd add check (text !~ '^\d{40}$')",
        r"comment on table odd is E'it''s \\ odd; COPY odd FROM stdin;'",
        r"create view displayed as select E'a\'b' as text",
    )
    before = postgresql_pantry.rows("select * from odd order by 1")
    for file in (
        pg_dump(postgresql_pantry, foreign_dir / "plain.sql"),
        pg_dump(postgresql_pantry, foreign_dir / "custom.dump", "-Fc"),
    ):
        postgresql_pantry.run("delete from odd")
        apply(postgresql_pantry.path, file)
        assert postgresql_pantry.rows("select * from odd order by 1") == before


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_scanner_result_is_independent_of_block_boundaries(postgresql_pantry, foreign_dir, size):
    text = pg_dump(postgresql_pantry, foreign_dir / "good.sql").read_bytes()[: 20_000 if size > 7 else 6_000]
    text = re.sub(rb"^\\(un)?restrict.*\n", b"", text, flags=re.MULTILINE)
    for tail, is_hostile in ((b"", False), (b"\n\\.\n;\n\\! ls\n", True)):
        scanner = PsqlScanner()
        is_refused = False
        try:
            for start in range(0, len(text + tail), size):
                scanner.feed((text + tail)[start : start + size])
        except PsqlCommandError:
            is_refused = True
        assert is_refused is is_hostile


def test_dump_of_several_databases_is_rejected(mysql_pantry, foreign_dir):
    text = mysqldump(mysql_pantry, foreign_dir / "good.sql", "--databases").read_text()
    (foreign_dir / "two.sql").write_text(
        text.replace("-- Dump completed", "USE `mysql`;\nDROP TABLE IF EXISTS `nothing`;\n-- Dump completed")
    )
    error = catch_error(DbctlError, lambda: apply(mysql_pantry.path, foreign_dir / "two.sql"))
    assert isinstance(error, FileNotRestorableError)
    assert "several databases" in str(error)


#: Statements that mysqldump writes for a server with GTIDs, and with --source-data.
REPLICATION_STATEMENTS = """SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;
SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '202fa3f7-e54f-11f1-abfb-02fc00000001:1-21708,
36b06734-e551-11f1-8c4a-02fc00000001:1-5:7';
CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000002', SOURCE_LOG_POS=157;
"""


def test_replication_statements_of_dump_are_removed(mysql_pantry, foreign_dir):
    before, text = mysql_pantry.content(), mysqldump(mysql_pantry, foreign_dir / "good.sql").read_text()
    position = text.index("DROP TABLE")
    end = "SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;\n-- Dump completed"
    (foreign_dir / "gtids.sql").write_text(
        text[:position] + REPLICATION_STATEMENTS + text[position:].replace("-- Dump completed", end)
    )
    mysql_pantry.change_data()
    apply(mysql_pantry.path, foreign_dir / "gtids.sql")
    assert mysql_pantry.content() == before
    import_dump(foreign_dir / "gtids.sql", foreign_dir / "imported.sql.gz", "larder/pantry")
    loaded = gzip.decompress((foreign_dir / "imported.sql.gz").read_bytes())
    assert b"INSERT INTO" in loaded
    assert not re.search(rb"LOG_BIN|GTID_PURGED|36b06734|REPLICATION", loaded)


@pytest.mark.mariadb
def test_default_with_qualified_sequence_is_restored(mysql_pantry, foreign_dir):
    mysql_pantry.run(
        "create sequence counter start with 5",
        "create table numbered (id int default nextval(counter), x int)",
        "insert into numbered (x) values (1)",
    )
    before = mysql_pantry.rows("select id, x from numbered")
    mysqldump(mysql_pantry, foreign_dir / "good.sql")
    mysql_pantry.run("delete from numbered")
    apply(mysql_pantry.path, foreign_dir / "good.sql")
    assert mysql_pantry.rows("select id, x from numbered") == before
    assert f"nextval(`{mysql_pantry.own.path}`.`counter`)" in str(
        mysql_pantry.rows("show create table numbered")
    ).replace('"', "`")
    mysql_pantry.run("insert into numbered (x) values (2)")
    assert mysql_pantry.rows("select count(distinct id) from numbered") == [(2,)]


BODIES = """select action_statement from information_schema.triggers where trigger_schema = database()
union all select event_definition from information_schema.events where event_schema = database()"""


def test_separators_that_mysql_stores_with_bodies_are_no_syntax_errors(mysql_pantry, foreign_dir):
    """It does if a packet with several statements creates a trigger or an event; its dump ends these with ``; */;;``."""
    mysql_pantry.run(
        "create table notes (x text)",
        "create trigger mark before insert on notes for each row set new.x = concat(new.x, '; */')",
        "create event yearly on schedule every 1 year do delete from notes where x = ';'",
    )
    before = mysql_pantry.rows(BODIES)
    text = mysqldump(mysql_pantry, foreign_dir / "good.sql", "--events").read_text()
    text, changed = re.subn(r"(\)|';') \n?(\*/ ?;;)$", r"\1; \2", text, flags=re.MULTILINE)
    assert changed == 2
    (foreign_dir / "separators.sql").write_text(text)
    mysql_pantry.run("drop trigger mark", "drop event yearly")
    apply(mysql_pantry.path, foreign_dir / "separators.sql")
    assert mysql_pantry.rows(BODIES) == before


def test_client_commands_in_mysql_dump_are_rejected(mysql_pantry, foreign_dir):
    evil = foreign_dir / "evil"
    text = mysqldump(mysql_pantry, foreign_dir / "good.sql").read_text()
    for hostile in (f"\\! touch {evil}", f"system touch {evil}", f"tee {evil}"):
        (foreign_dir / "bad.sql").write_text(text.replace("DROP TABLE", f"{hostile}\nDROP TABLE", 1))
        assert isinstance(
            catch_error(DbctlError, lambda: apply(mysql_pantry.path, foreign_dir / "bad.sql")),
            FileNotRestorableError,
        )
        assert not evil.exists()
