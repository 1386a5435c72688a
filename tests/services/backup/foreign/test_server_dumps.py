"""Dumps that the programs of a server wrote for somebody: restored like a backup, and never obeyed."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import tempfile
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.backup.foreign.dump import take_in
from dbctl.engines.postgresql.backup.foreign.psql_commands import Scanner, SpokenToPsqlError
from dbctl.engines.sql.query_builder import ident
from dbctl.errors import BackupPartialError, DbctlError, FileUnfitError, FileUnsoundError, WrongAppError
from dbctl.services.restore.copy import Copying
from dbctl.services.restore.merge import Wanted
from dbctl.services.restore.preview import preview
from dbctl.services.restore.tables import RestoringTables
from tests import servers
from tests.services import larder_app, promptvault_app
from tests.services.backup.foreign.test_files import adopt, apply, found, taken, tried
from tests.services.flashpoint_app import caught


@pytest.fixture(autouse=True)
def secrets_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def left(tmp_path):
    (tmp_path / "left").mkdir()
    return tmp_path / "left"


@pytest.fixture(params=["postgresql", "mysql"])
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


@pytest.fixture
def shelf(tmp_path):
    with larder_app.settled("postgresql", tmp_path / "app") as made:
        yield made


@pytest.fixture
def cupboard(tmp_path):
    with larder_app.settled("mysql", tmp_path / "app") as made:
        yield made


def pg_dump(pantry, place, *words):
    own = pantry.own
    where = ["-h", own.host or "127.0.0.1", "-p", str(own.port or 5432), "-U", own.user]
    subprocess.run([servers.client("pg_dump"), *where, *words, "-f", place, own.path], check=True)
    return place


def mysqldump(pantry, place, *words):
    own = pantry.own
    password = {"MYSQL_PWD": own.password.reveal()} if own.password else {}
    argv = [
        client_programs.PROGRAMS[servers.mysql_server().product]["dump"],
        "-h",
        own.host or "127.0.0.1",
        "-P",
        str(own.port or 3306),
        "-u",
        own.user,
        "--routines",
        *words,
        own.path,
    ]
    with place.open("wb") as file:
        subprocess.run(argv, stdout=file, env={**os.environ, **password}, check=True)
    return place


def forms(pantry, left):
    """Return a file of each form in which somebody may leave a dump."""
    if pantry.engine == "mysql":
        plain = mysqldump(pantry, left / "backup_20260105_030000.sql")
        mysqldump(pantry, left / "databases_20260105.sql", "--databases")
    else:
        plain = pg_dump(pantry, left / "backup_20260105_030000.sql")
        pg_dump(pantry, left / "pantry.dump", "-Fc")
        pg_dump(pantry, left / "pantry.tar", "-Ft")
    subprocess.run(["gzip", "-k", plain], check=True)
    subprocess.run(["zstd", "-qk", plain], check=True)
    return sorted(left.iterdir())


def test_a_dump_of_every_form_is_restored_and_undone(pantry, left):
    before = pantry.content()
    for file in forms(pantry, left):
        pantry.spoil()
        spoiled = pantry.content()
        assert apply(pantry.path, file).databases[0].way == "swapped"
        assert pantry.content() == before, file.name
    promptvault_app.undo(pantry.path)
    assert pantry.content() == spoiled


def test_a_dump_is_loaded_on_trial_and_adopted_as_one_of_our_own(pantry, left):
    before = pantry.content()
    file = forms(pantry, left)[0]
    (sound,) = tried(pantry.path, file)
    assert (sound.code, sound.target) == ("file-sound", "larder/pantry")
    assert sound.message.endswith("; it was loaded on trial")
    (made,) = adopt(pantry.path, file).adopted
    assert made.databases == ["pantry"]
    assert made.members[0].schema
    assert promptvault_app.codes(promptvault_app.verified(pantry.path)) == []
    file.unlink()
    pantry.spoil()
    promptvault_app.apply(pantry.path, made.id)
    assert pantry.content() == before


def test_a_dump_in_the_directory_form_is_refused_with_what_converts_it(shelf, left):
    before, folder = shelf.content(), pg_dump(shelf, left / "pantry", "-Fd")
    for path in (folder, folder / "toc.dat"):
        error = caught(DbctlError, lambda path=path: adopt(shelf.path, path))
        assert isinstance(error, FileUnfitError)
        assert "pg_restore --file=" in error.hint
    text = left / "dump.sql"
    subprocess.run([servers.client("pg_restore"), f"--file={text}", folder], check=True)
    text.chmod(0o600)
    shelf.spoil()
    apply(shelf.path, text)
    assert shelf.content() == before


def test_large_objects_of_an_archive_come_back(shelf, left):
    shelf.run("select lo_from_bytea(4242, 'first'), lo_from_bytea(4243, 'second')")
    for form in ("-Fc", "-Ft"):
        file = pg_dump(shelf, left / f"pantry{form}", form)
        shelf.run("select lo_unlink(4242), lo_put(4243, 0, 'other!')")
        (finding,) = tried(shelf.path, file)
        assert finding.code == "file-sound"
        apply(shelf.path, file)
        assert shelf.rows("select lo_get(4242), lo_get(4243)") == [(b"first", b"second")]


def test_an_archive_that_is_cut_off_or_damaged_is_refused(shelf, left):
    before = shelf.content()
    for form in ("-Fc", "-Ft"):
        whole = pg_dump(shelf, left / f"pantry{form}", form).read_bytes()
        for end in (600, len(whole) // 2, len(whole) * 9 // 10):
            cut = left / "cut"
            cut.write_bytes(whole[:end])
            assert isinstance(caught(DbctlError, lambda cut=cut: apply(shelf.path, cut)), FileUnsoundError)
    assert shelf.content() == before


def test_a_dump_is_listed_by_what_it_holds(pantry):
    folder = pantry.folder / "backups"
    folder.mkdir(mode=0o700)
    files = forms(pantry, folder)
    told = found(pantry.path)
    assert sorted(one.path for one in told) == [str(one) for one in files]
    assert {tuple(one.databases) for one in told} == {("pantry",)}


def test_a_dump_cut_off_anywhere_is_refused(pantry, left):
    text = forms(pantry, left)[0].read_bytes().rstrip()
    before = pantry.content()
    in_a_string = text.index(b"'") + 2
    for end in (in_a_string, *(len(text) * share // 100 for share in (30, 60, 90, 99))):
        cut = left / "cut.sql"
        cut.write_bytes(text[:end])
        assert isinstance(caught(DbctlError, lambda cut=cut: apply(pantry.path, cut)), FileUnsoundError), end
    assert pantry.content() == before


def some_tables(pantry, file, without, only):
    if pantry.engine == "mysql":
        return mysqldump(pantry, file, "--ignore-table", f"{pantry.own.path}.{without}")
    return pg_dump(pantry, file, *(word for name in only for word in ("-t", name)))


def test_a_dump_of_some_tables_gives_back_their_rows_and_replaces_no_database(pantry, left):
    file = some_tables(pantry, left / "some.sql", "options", ["members"])
    before = pantry.content()
    error = caught(DbctlError, lambda: apply(pantry.path, file))
    assert isinstance(error, BackupPartialError)
    assert f"--file {file} --table" in error.hint
    (sound,) = tried(pantry.path, file)
    assert (sound.code, sound.message.endswith("; it was loaded on trial")) == ("file-sound", True)
    pantry.run("update members set mail = handle || '@spoiled.example'")
    wanted = Wanted(tables=["members"], merge="replace")
    with taken(pantry.path, file) as (app, beside, found):
        RestoringTables(app, beside, found.manifest, wanted, promptvault_app.keys_of(app), timeout=5).apply()
    assert pantry.content()["members"] == before["members"]
    (made,) = adopt(pantry.path, file).adopted
    assert (made.kind, made.databases) == ("partial", ["pantry"])
    pantry.run("update members set mail = handle || '@spoiled.example'")
    with promptvault_app.opened(pantry.path) as (app, repository):
        manifest = repository.find(made.id)
        RestoringTables(app, repository, manifest, wanted, promptvault_app.keys_of(app), timeout=5).apply()
    assert pantry.content()["members"] == before["members"]


def test_a_dump_of_tables_that_the_app_does_not_have_is_of_another_app(pantry, left):
    pantry.run("create table stranger (id int primary key)", "insert into stranger values (1)")
    file = some_tables(pantry, left / "some.sql", "options", ["stranger"])
    pantry.run("drop table stranger")
    assert isinstance(caught(DbctlError, lambda: apply(pantry.path, file)), WrongAppError)


def test_the_schema_of_a_foreign_dump_is_compared_with_what_it_replaced(pantry, left):
    file = forms(pantry, left)[0]
    with taken(pantry.path, file) as (app, beside, found):
        seen = preview(app, beside, found.manifest, promptvault_app.keys_of(app))
        assert [one.schema for one in seen.databases] == ["unknown"]
    assert "schema-changed" not in [one.code for one in apply(pantry.path, file).findings]
    pantry.run("create table regrets (id int primary key)")
    assert "schema-changed" in [one.code for one in apply(pantry.path, file).findings]


def test_a_foreign_dump_becomes_a_new_database(shelf, left):
    before = shelf.content()
    file = forms(shelf, left)[0]
    url = structs.replace(shelf.own, path=f"{shelf.own.path}_copy")
    with taken(shelf.path, file) as (app, beside, found):
        for replace in (False, True):
            work = Copying(
                app,
                beside,
                found.manifest,
                {"pantry": url},
                promptvault_app.keys_of(app),
                replace=replace,
                timeout=5,
            )
            assert work.apply().databases[0].tables == len(before)
    with closing(servers.connection(servers.postgresql())) as own:
        own.execute(f"drop database {ident(url.path)}")


@pytest.mark.parametrize(
    "rows", ["copy options from stdin;\n\\.\n", "COPY public.options FROM stdin;\n\\.\n"]
)
def test_rows_in_a_form_that_pg_dump_does_not_write_are_refused(shelf, left, rows):
    file = left / "pre8.sql"
    file.write_text(
        f"--\n-- PostgreSQL database dump\n--\n\n{rows}\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
    error = caught(DbctlError, lambda: apply(shelf.path, file))
    assert isinstance(error, FileUnfitError)


def test_a_dump_that_lacks_a_table_which_the_database_has_says_so(pantry, left):
    file = some_tables(pantry, left / "some.sql", "tallies", sorted({*pantry.tables()} - {"tallies"}))
    with taken(pantry.path, file) as (_app, _beside, told):
        assert told.remarks == [f"{file} lacks what larder/pantry has: tallies"]


def test_a_dump_of_another_engine_is_refused(shelf, left, tmp_path_factory):
    file = pg_dump(shelf, left / "backup.sql")
    folder = tmp_path_factory.mktemp("other") / "app"
    with larder_app.settled("sqlite", folder) as other:
        error = caught(DbctlError, lambda: apply(other.path, file))
    assert isinstance(error, FileUnfitError)
    assert "it is of PostgreSQL" in str(error)


def test_a_dump_that_makes_its_database_or_holds_inserts_says_what_to_do(shelf, left):
    for words in (["--create"], ["--inserts"]):
        file = pg_dump(shelf, left / "backup.sql", *words)
        error = caught(DbctlError, lambda file=file: apply(shelf.path, file))
        assert isinstance(error, FileUnfitError)
        assert "pg_dump -Fc" in error.hint


#: What psql would do by itself, in places where a careless reader takes it for something else.
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
def test_psql_is_never_told_to_do_anything_itself(shelf, left, hostile):
    evil = left / "evil"
    text = pg_dump(shelf, left / "good.sql").read_text()
    at = text.index("CREATE TABLE")
    file = left / "backup.sql"
    file.write_text(f"{text[:at]}{hostile.format(evil=evil)}\n{text[at:]}")
    error = caught(DbctlError, lambda: apply(shelf.path, file))
    assert isinstance(error, FileUnfitError), error
    assert not evil.exists()


def test_rows_may_hold_every_letter_and_functions_every_backslash(shelf, left):
    shelf.run(
        "create table odd (text text)",
        r"""insert into odd values (E'\\! ls'), (E'a\tb\nc\\d\re\b\f\v'), (''''), ('$$'), ('\.'), (null), ('--'), (';(')""",
        r"create function pattern() returns text language sql as $body$ select '^\d+\s\w \! ls' $body$",
        r"alter table odd add check (text !~ '^\d{40}$')",
        r"comment on table odd is E'it''s \\ odd; COPY odd FROM stdin;'",
        r"create view shown as select E'a\'b' as text",
    )
    before = shelf.rows("select * from odd order by 1")
    for file in (pg_dump(shelf, left / "plain.sql"), pg_dump(shelf, left / "custom.dump", "-Fc")):
        shelf.run("delete from odd")
        apply(shelf.path, file)
        assert shelf.rows("select * from odd order by 1") == before


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_where_blocks_are_cut_makes_no_difference(shelf, left, size):
    text = pg_dump(shelf, left / "good.sql").read_bytes()[: 20_000 if size > 7 else 6_000]
    text = re.sub(rb"^\\(un)?restrict.*\n", b"", text, flags=re.MULTILINE)
    for tail, spoken in ((b"", False), (b"\n\\.\n;\n\\! ls\n", True)):
        scanner = Scanner()
        told = False
        try:
            for at in range(0, len(text + tail), size):
                scanner.feed((text + tail)[at : at + size])
        except SpokenToPsqlError:
            told = True
        assert told is spoken


def test_a_dump_of_several_databases_leaves_all_of_them_alone(cupboard, left):
    text = mysqldump(cupboard, left / "good.sql", "--databases").read_text()
    (left / "two.sql").write_text(
        text.replace("-- Dump completed", "USE `mysql`;\nDROP TABLE IF EXISTS `nothing`;\n-- Dump completed")
    )
    error = caught(DbctlError, lambda: apply(cupboard.path, left / "two.sql"))
    assert isinstance(error, FileUnfitError)
    assert "several databases" in str(error)


#: What mysqldump writes by itself where a server keeps GTIDs, and with --source-data.
TO_THE_SERVER = """SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;
SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '202fa3f7-e54f-11f1-abfb-02fc00000001:1-21708,
36b06734-e551-11f1-8c4a-02fc00000001:1-5:7';
CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000002', SOURCE_LOG_POS=157;
"""


def test_what_a_dump_says_to_the_whole_server_is_left_out(cupboard, left):
    before, text = cupboard.content(), mysqldump(cupboard, left / "good.sql").read_text()
    at = text.index("DROP TABLE")
    end = "SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;\n-- Dump completed"
    (left / "gtids.sql").write_text(text[:at] + TO_THE_SERVER + text[at:].replace("-- Dump completed", end))
    cupboard.spoil()
    apply(cupboard.path, left / "gtids.sql")
    assert cupboard.content() == before
    take_in(left / "gtids.sql", left / "taken.sql.gz", "larder/pantry")
    loaded = gzip.decompress((left / "taken.sql.gz").read_bytes())
    assert b"INSERT INTO" in loaded
    assert not re.search(rb"LOG_BIN|GTID_PURGED|36b06734|REPLICATION", loaded)


@pytest.mark.mariadb
def test_a_dump_that_names_its_own_database_in_a_default_is_restored(cupboard, left):
    cupboard.run(
        "create sequence counter start with 5",
        "create table numbered (id int default nextval(counter), x int)",
        "insert into numbered (x) values (1)",
    )
    before = cupboard.rows("select id, x from numbered")
    mysqldump(cupboard, left / "good.sql")
    cupboard.run("delete from numbered")
    apply(cupboard.path, left / "good.sql")
    assert cupboard.rows("select id, x from numbered") == before
    assert f"nextval(`{cupboard.own.path}`.`counter`)" in str(
        cupboard.rows("show create table numbered")
    ).replace('"', "`")
    cupboard.run("insert into numbered (x) values (2)")
    assert cupboard.rows("select count(distinct id) from numbered") == [(2,)]


def test_the_client_of_mysql_is_never_told_to_do_anything_itself(cupboard, left):
    evil = left / "evil"
    text = mysqldump(cupboard, left / "good.sql").read_text()
    for hostile in (f"\\! touch {evil}", f"system touch {evil}", f"tee {evil}"):
        (left / "bad.sql").write_text(text.replace("DROP TABLE", f"{hostile}\nDROP TABLE", 1))
        assert isinstance(caught(DbctlError, lambda: apply(cupboard.path, left / "bad.sql")), FileUnfitError)
        assert not evil.exists()
