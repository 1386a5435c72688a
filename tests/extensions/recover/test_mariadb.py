"""Recover a database of MariaDB as of a moment: exactly the rows before it, or an error with the reason."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest

from dbctl.extensions.recover.errors import RecoveryServerMissingError
from dbctl.extensions.recover.mariadb import events
from dbctl.extensions.recover.mariadb import server as server_module
from dbctl.extensions.recover.mariadb.events import EventReader
from dbctl.extensions.recover.mariadb.replay import is_foreign_code
from dbctl.extensions.recover.mariadb.server import find_programs
from tests import servers
from tests.crash.figures import choose_count, create_rng
from tests.extensions.recover.mariadb_source import (
    TABLE,
    Source,
    list_ids,
    list_processes,
    load,
    read_dump,
    write_time,
)
from tests.services.flashpoint_app import catch_error

pytestmark = pytest.mark.mariadb
SECOND = timedelta(seconds=1)
#: Statements of another database, some of which fail in a server without it.
OTHER = (
    "use other",
    "create procedure p() select 1",
    "create event e on schedule every 1 day do select 1",
    "create function f() returns int deterministic return 5",
    "create table t (v int)",
    "insert into t values (1)",
    "create view v as select * from t",
    "create sequence s",
    "drop procedure p",
    "drop event e",
    "drop function f",
    "create user other@localhost identified by 'x'",
    "grant select on shop.* to other@localhost",
    "rename table t to u",
    "truncate u",
    "use shop",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a server that was killed after rows every 100 ms, DDL, statements of another database and a deletion."""
    with servers.logging_mysql() as server:
        source = Source(server, tmp_path_factory.mktemp("app"))
        source.sell(5)
        source.wait_for_next_second()
        source.back_up()
        source.sell(15, pause=0.1)
        source.run("use shop", "alter table sales add column price int default 3", *OTHER)
        source.sell(15, pause=0.1)
        source.run("set binlog_format = 'row'", "flush binary logs")
        source.sell(15, pause=0.1)
        source.delete("id % 2 = 0")
        source.wait_for_next_second()
        source.run(
            "set binlog_format = 'statement'",
            "flush binary logs",
            "create view expensive as select * from sales where price > 2",
        )
        source.run("use other", "update shop.sales set note = 'other' where id = 3", "use shop")
        source.sell(5, pause=0.1)
        source.wait_for_next_second()
        source.sell(1)
        source.kill()
        yield source


@pytest.fixture(autouse=True)
def staging(monkeypatch):
    """Return a folder for temporary files that every user can enter; private servers leave nothing in it."""
    folder = Path(tempfile.mkdtemp(dir=servers.data_folder()))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list_processes(folder)
    assert not list(folder.glob("*recover*"))
    shutil.rmtree(folder)


@pytest.fixture
def shop(source, tmp_path, monkeypatch):
    """Return the killed server, in a copy of the folder of its app."""
    shutil.copytree(source.folder, tmp_path / "app")
    monkeypatch.chdir(tmp_path / "app")
    return source


def recover(answer, at):
    """Return the text of the dump of a moment, and the backup."""
    backup = answer("backup", "recover", "--at", write_time(at))["data"]
    (member,) = backup["members"]
    assert backup["kind"] == "recovered"
    return read_dump(Path(backup["path"], member["file"])), backup


def refuse(answer, at):
    """Return the error of a recovery."""
    result = answer("backup", "recover", "--at", write_time(at), status=None)
    assert result["exit_code"]
    return result["error"]


def list_moments(source):
    """Return the seconds after that of the backup that can be recovered, but the last one."""
    first = source.sales[5].inserted.replace(microsecond=0)
    last = source.sales[-1].inserted.replace(microsecond=0)
    return [first + number * SECOND for number in range(1, (last - first).seconds)]


def assert_recovered(answer, source, at):
    dump, backup = recover(answer, at)
    expected = source.list_sales(at)
    assert list_ids(dump) == expected
    assert [row[0] for row in load(dump)] == expected
    assert backup["members"][0]["rows"]["sales"] == len(expected)


@pytest.mark.slow
def test_moments_have_exactly_the_rows_before_them(shop, answer):
    for at in create_rng("moments").choices(list_moments(shop), k=choose_count(3, 10)):
        assert_recovered(answer, shop, at)


def test_last_second_is_before_the_last_event_and_has_ddl_of_the_log(shop, answer):
    last = shop.sales[-1].inserted.replace(microsecond=0)
    dump, backup = recover(answer, last)
    rows = load(dump)
    assert [row[0] for row in rows] == shop.list_sales(last)
    assert {row[3] for row in rows} == {3}
    assert [row[2] for row in rows if row[0] == 3] == ["other"]
    assert "VIEW `expensive`" in dump
    (member,) = backup["members"]
    assert member["rows"].keys() == {"sales"}
    assert member["facts"]["recovered_position"].startswith("mysql-bin.000003:")
    assert member["facts"]["recovered_last_transaction"] < f"{last:%Y-%m-%d %H:%M:%S} UTC"
    assert member["taken_at"] == f"{last:%Y-%m-%dT%H:%M:%S}.000Z"
    error = refuse(answer, last + SECOND)
    assert error["code"] == "recovery-time"
    assert f"{last:%Y-%m-%d %H:%M:%S} UTC" in error["hint"]


def test_dry_run_names_files_and_positions_and_writes_nothing(shop, answer):
    at = shop.sales[-1].inserted.replace(microsecond=0)
    before = sorted(Path().rglob("*"))
    steps = answer("backup", "recover", "--at", write_time(at), "--dry-run")["data"]["plan"]["steps"]
    assert "mysql-bin.000001:" in steps[1]
    assert "mysql-bin.000003:" in steps[1]
    assert f"{at:%Y-%m-%d %H:%M:%S} UTC" in steps[1]
    assert sorted(Path().rglob("*")) == before


def test_time_before_the_backup_is_refused(shop, answer):
    error = refuse(answer, shop.sales[0].inserted - SECOND)
    assert error["code"] == "recovery-missing"


def change_logs(source, name="logs"):
    """Return a copy of the logs, which the app uses."""
    folder = source.copy_logs(Path(name).absolute())
    source.configure(folder, Path())
    return folder


def read_last_time(log):
    """Return the time of the last event of a log."""
    return datetime.fromtimestamp(max(event.time for event in EventReader(log)), UTC)


def test_missing_log_is_named(shop, answer):
    logs = change_logs(shop)
    at = list_moments(shop)[-1]
    (logs / "mysql-bin.000002").unlink()
    error = refuse(answer, at)
    assert error["code"] == "recovery-time"
    assert "mysql-bin.000002" in error["message"]
    assert f"{read_last_time(logs / 'mysql-bin.000001'):%H:%M:%S}" in error["hint"]
    (logs / "mysql-bin.000001").unlink()
    error = refuse(answer, at)
    assert error["code"] == "recovery-missing"
    assert "mysql-bin.000001" in error["message"]
    shutil.rmtree(logs)
    assert refuse(answer, at)["code"] == "file-failed"


def clear_positions(log):
    """Write no positions into the events of transactions, as MariaDB 11.8 does (``binlog_legacy_event_pos``)."""
    content = bytearray(log.read_bytes())
    for event in EventReader(log):
        if event.kind not in events.BETWEEN and event.kind != events.GTID:
            checksum = event.end - events.CHECKSUM_BYTES
            content[event.position + 13 : event.position + 17] = bytes(4)
            content[checksum : event.end] = zlib.crc32(content[event.position : checksum]).to_bytes(
                4, "little"
            )
    log.write_bytes(content)


def test_log_without_positions_in_its_transactions_is_replayed(shop, answer):
    logs = sorted(change_logs(shop).glob("mysql-bin.0*[0-9]"))
    for log in logs:
        clear_positions(log)
    assert_recovered(answer, shop, list_moments(shop)[-1])


@pytest.mark.slow
def test_drill_of_a_moment_is_recorded_next_to_the_backup_from_which_it_began(other, answer):
    other.sell(2)
    other.wait_for_next_second()
    other.back_up()
    other.sell(2)
    at = finish(other)
    (drill,) = answer("backup", "drill", "--at", write_time(at))["data"]["databases"]
    (backup,) = answer("backup", "list")["data"]["items"]  # what was recovered is deleted
    assert (drill["backup"], drill["rows"]) == (backup["id"], len(other.list_sales(at)))
    assert backup["drills"] == {}
    assert backup["moments"]["main"]["as_of"] == drill["as_of"]


@pytest.mark.slow
def test_last_logs_are_not_required_for_a_time_before_them(shop, answer):
    logs = change_logs(shop)
    at = shop.sales[15].inserted.replace(microsecond=0)
    for name in ("mysql-bin.000002", "mysql-bin.000003"):
        (logs / name).unlink()
    assert_recovered(answer, shop, at)


def test_missing_transactions_between_logs_are_found(shop, answer):
    logs = change_logs(shop)
    path = logs / "mysql-bin.000002"
    starts = [event.position for event in EventReader(path) if event.kind == events.GTID]
    path.write_bytes(path.read_bytes()[: starts[-1]])
    error = refuse(answer, list_moments(shop)[-1])
    assert error["code"] == "recovery-time"
    assert "mysql-bin.000003" in error["message"]


@pytest.mark.parametrize("size", [0, 3, 4, 20, 300])
def test_log_that_ends_before_the_backup_is_refused(shop, answer, size):
    logs = change_logs(shop)
    path = logs / "mysql-bin.000001"
    path.write_bytes(path.read_bytes()[:size])
    assert refuse(answer, list_moments(shop)[-1])["code"] in ("recovery-missing", "recovery-damaged")


def test_incomplete_last_event_ends_the_log(shop, answer):
    logs = change_logs(shop)
    (logs / "mysql-bin.000003").unlink()
    path = logs / "mysql-bin.000002"
    starts = [event.position for event in EventReader(path) if event.kind == events.GTID]
    path.write_bytes(path.read_bytes()[: starts[-2] + 70])
    error = refuse(answer, list_moments(shop)[-1])
    assert error["code"] == "recovery-time"
    assert "incomplete event" in error["message"]


@pytest.mark.slow
def test_flipped_bits_are_found(shop, answer):
    logs = change_logs(shop)
    at = list_moments(shop)[-1]
    path = logs / "mysql-bin.000002"
    content = path.read_bytes()
    generator = random.Random(7)  # noqa: S311
    for position in generator.sample(range(len(content)), choose_count(50, 200)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        result = answer("backup", "recover", "--at", write_time(at), "--dry-run", status=None)
        assert result["exit_code"], f"bit of byte {position}"
        assert result["error"]["code"] in (
            "recovery-damaged",
            "recovery-refused",
            "recovery-missing",
            "recovery-time",
        )
    path.write_bytes(content)
    answer("backup", "recover", "--at", write_time(at), "--dry-run")


@pytest.mark.slow
def test_encrypted_log_is_refused(shop, answer, tmp_path, public):
    key_file = public / "keys"
    key_file.write_text(f"1;{'ab' * 32}\n")
    settings = ["--plugin-load-add=file_key_management", f"--file-key-management-filename={key_file}"]
    with servers.logging_mysql(*settings, "--encrypt-binlog") as server:
        other = Source(server, tmp_path)
        other.back_up()
        other.sell(1)
        other.wait_for_next_second()
        other.sell(1)
        at = other.wait_for_next_second() - SECOND
        other.configure(other.logs, Path())
        shutil.rmtree("backups")
        shutil.copytree(tmp_path / "backups", "backups")
        error = refuse(answer, at)
        assert error["code"] == "recovery-refused"
        assert "encrypted" in error["message"]


@pytest.mark.parametrize("server_id", [7, 8])
def test_logs_of_another_server_are_refused(shop, answer, tmp_path, server_id):
    with servers.logging_mysql(f"--server-id={server_id}") as server:
        other = Source(server, tmp_path)
        other.run("create database third")
        other.sell(40)
        other.run("flush binary logs", "flush binary logs")
        shop.configure(other.logs, Path())
        error = refuse(answer, list_moments(shop)[-1])
        assert error["code"] == "recovery-refused", error
        assert "not that of the backup" in error["message"]


@pytest.fixture
def public():
    """Return a folder that the user of a server can read."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Return a running server, in the folder of its app."""
    monkeypatch.chdir(tmp_path)
    with servers.logging_mysql("--secure-file-priv=") as server:
        source = Source(server, tmp_path)
        yield source
        source.kill()


def finish(source):
    """Return a moment after all statements."""
    at = source.wait_for_next_second()
    source.sell(1)
    source.wait_for_next_second()
    source.sell(1)
    return at


@pytest.mark.slow
def test_statement_that_reads_another_database_is_named(other, answer):
    other.run("create table other.t (note varchar(40))", "insert into other.t values ('secret-note')")
    other.sell(1)
    other.back_up()
    other.run(
        "set binlog_format = 'statement'",
        "insert into shop.sales (at, note) select now(6), note from other.t where note = 'secret-note'",
    )
    error = refuse(answer, finish(other))
    assert error["code"] == "recovery-failed"
    assert "mysql-bin.000001:" in error["message"]
    assert "insert into shop.sales" in error["message"]
    assert "secret-note" not in error["message"]


@pytest.mark.slow
def test_rows_of_another_database_are_recovered_from_row_events(other, answer):
    other.run("create table other.t (note varchar(40))", "insert into other.t values ('copied')")
    other.back_up()
    other.run(
        "set binlog_format = 'row'", "insert into shop.sales (at, note) select now(6), note from other.t"
    )
    dump, _ = recover(answer, finish(other))
    assert "'copied'" in dump


@pytest.mark.slow
def test_triggers_accounts_files_and_transactions_are_replayed(other, answer, public):
    other.run(
        "use shop",
        "create user clerk@localhost identified by 'x'",
        "grant all on *.* to clerk@localhost",
        "create table shop.log (id int) engine=MyISAM",
        "create definer=clerk@localhost trigger noted after insert on sales for each row insert into log values (new.id)",
        "create definer=clerk@localhost procedure restock() insert into sales (at, note) values (now(6), 'restocked')",
    )
    other.back_up()
    file = public / "rows.txt"
    file.write_text("loaded\n")
    other.run(
        "call restock()",
        f"load data infile '{file}' into table sales (note) set at = now(6)",
        "set @note = 'variable'",
        "insert into sales (at, note) values (now(6), @note)",
        "begin",
        "insert into sales (at, note) values (now(6), 'rolled back')",
        "rollback",
        "begin",
        "insert into sales (at, note) values (now(6), 'committed')",
        "commit",
        "xa start 'x'",
        "insert into sales (at, note) values (now(6), 'prepared')",
        "xa end 'x'",
        "xa prepare 'x'",
        "xa commit 'x'",
        "create event nightly on schedule every 1 day do delete from sales",
    )
    at = other.wait_for_next_second()
    ids = [row for (row,) in other.run("select id from sales order by id")]
    ((logged,),) = other.run("select count(*) from log")
    finish(other)
    dump, backup = recover(answer, at)
    notes = [row[2] for row in load(dump)]
    assert notes == ["restocked", "loaded", "variable", "committed", "prepared"]
    assert backup["members"][0]["rows"] == {"sales": 5, "log": logged}
    assert [row[0] for row in load(dump)] == ids
    assert any("nightly" in remark for remark in backup["remarks"])
    assert "clerk@localhost" in backup["members"][0]["facts"]["roles"]


@pytest.mark.slow
def test_time_zones_and_accounts_since_the_backup_are_supplied(other, answer):
    other.back_up()
    zones = subprocess.run(
        ["mariadb-tzinfo-to-sql", "/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"],
        capture_output=True,
        check=True,
    )
    command = ["mariadb", "--no-defaults", "--user=root", f"--socket={other.server.folder}/socket", "mysql"]
    subprocess.run(command, input=zones.stdout, check=True)
    other.run(
        "use shop",
        "set binlog_format = 'statement'",
        "create user clerk@localhost identified by 'x'",
        "grant all on shop.* to clerk@localhost",
        "create table log (id int)",
        "create definer=clerk@localhost trigger noted after insert on sales for each row insert into log values (new.id)",
        "set time_zone = 'Asia/Tokyo'",
        "insert into sales (at) values (now(6))",
        "set time_zone = 'SYSTEM'",
    )
    rows = other.run("select * from sales")
    dump, backup = recover(answer, finish(other))
    assert load(dump) == rows
    assert backup["members"][0]["rows"] == {"sales": 1, "log": 1}


@pytest.mark.slow
def test_tables_in_other_folders_are_created_in_the_private_one(other, answer, public):
    outside = public / "outside"
    outside.mkdir()
    shutil.chown(outside, other.server.folder.owner())
    other.back_up()
    other.run(
        f"create table shop.far (id int) data directory = '{outside}'", "insert into shop.far values (7)"
    )
    at = finish(other)
    files = {path: path.read_bytes() for path in outside.rglob("*.ibd")}
    assert files
    dump, _ = recover(answer, at)
    assert "(7)" in dump
    assert {path: path.read_bytes() for path in outside.rglob("*.ibd")} == files


@pytest.mark.slow
def test_lower_case_names_and_other_settings_are_those_of_the_source(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with servers.logging_mysql("--lower-case-table-names=1", "--default-storage-engine=Aria") as server:
        other = Source(server, tmp_path)
        other.back_up()
        other.run("create table Shop.Extra (id int)", "insert into SHOP.EXTRA values (5)")
        dump, backup = recover(answer, finish(other))
        assert backup["members"][0]["rows"]["extra"] == 1
        assert "ENGINE=Aria" in dump


def test_backup_records_no_position_without_a_log_or_its_configuration(other, answer):
    facts = answer("backup", "create")["data"]["members"][0]["facts"]
    assert facts["binlog"].startswith("mysql-bin.000001:")
    assert facts["gtid"]
    assert facts["server_id"] == "7"
    file = Path("dbctl.toml")
    text = file.read_text()
    file.write_text(text.partition("[apps.shop.recovery")[0])
    assert "binlog" not in answer("backup", "create")["data"]["members"][0]["facts"]


def test_position_requires_no_privilege_on_the_server(other, answer):
    other.run(
        "create user clerk@localhost identified by 'x'",
        "grant select, show view, trigger, event on shop.* to clerk@localhost",
        "grant select on mysql.proc to clerk@localhost",
    )
    file = Path("dbctl.toml")
    file.write_text(file.read_text().replace("root@", "clerk:x@"))
    assert "binlog" in answer("backup", "create")["data"]["members"][0]["facts"]


@pytest.mark.slow
def test_position_is_that_of_the_snapshot_while_others_write(other, answer):
    other.run("create table shop.big (id int, text longtext)")
    other.run("insert into shop.big select seq, repeat('x', 20000) from seq_1_to_3000")
    other.sell(1)
    process = subprocess.Popen([sys.executable, "-m", "dbctl", "backup", "create"])
    while process.poll() is None:
        other.sell(1)
    assert process.returncode == 0
    dump, _ = recover(answer, at := finish(other))
    assert list_ids(dump) == other.list_sales(at)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "program"),
    [
        ("SIGKILL", "mariadb-install-db"),
        ("SIGKILL", "mariadbd"),
        ("SIGTERM", "mariadb-install-db"),
        ("SIGINT", "mariadbd"),
    ],
)
def test_ended_recovery_leaves_no_server_and_no_folder(shop, staging, number, program):
    at = list_moments(shop)[-1]
    command = [sys.executable, "-m", "dbctl", "backup", "recover", "--at", write_time(at)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    # before that, a shell with these words waits until its watcher has started
    while not any(
        f"bin/{program} " in command and "read -r" not in command for command in list_processes(staging)
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.Signals[number])
    process.wait()
    while list_processes(staging) or list(staging.glob("*recover*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [path.name for path in Path("backups/shop").glob("2*")] == [
        path.name for path in (shop.folder / "backups/shop").glob("2*")
    ]


CODE = (
    "create procedure p() select 1",
    "CREATE DEFINER=`root`@`localhost` PROCEDURE `p`()\nselect 1",
    "create or replace definer = 'a b'@'%' function f() returns int return 1",
    "drop procedure if exists p",
    "/* note */ alter event e disable",
    "drop package body x",
    "create event if not exists `a.b` on schedule every 1 day do select 1",
)


@pytest.mark.parametrize("text", CODE, ids=range(len(CODE)))
def test_code_is_that_of_its_database(text):
    assert is_foreign_code("other", text, "shop")
    assert not is_foreign_code("shop", text, "shop")


@pytest.mark.parametrize(
    "text",
    [
        "create procedure shop.p() select 1",
        "create procedure `shop` . `p`() select 1",
        "alter event e rename to shop.e",
        "insert into t values (1)",
        "create table procedure_log (a int)",
        "drop table shop.function",
        "insert into t values ('create procedure p()')",
    ],
    ids=range(7),
)
def test_other_statements_are_not_skipped(text):
    assert not is_foreign_code("other", text, "shop")
    assert not is_foreign_code("Shop", "drop procedure p", "shop")


@pytest.mark.slow
def test_incomplete_transaction_of_a_crash_is_not_recovered(other, answer):
    other.sell(2)
    other.back_up()
    other.sell(3)
    other.kill()
    path = other.list_logs()[-1]
    *_, last = EventReader(path)
    assert last.kind == events.XID
    path.write_bytes(path.read_bytes()[: last.position])
    lost = other.sales.pop().id
    other.restart()
    other.sell(2)
    at = finish(other)
    assert len(other.list_logs()) == 2
    dump, _ = recover(answer, at)
    assert list_ids(dump) == [row for row in other.list_sales(at) if row != lost]


@pytest.mark.slow
def test_database_that_was_dropped_and_created_again_is_recovered(other, answer):
    other.sell(2)
    other.back_up()
    at = other.wait_for_next_second()
    other.run("drop database shop", "create database shop character set latin1", TABLE)
    other.run("create table shop.new (id int)", "insert into shop.new values (1)")
    later = finish(other)
    dump, _ = recover(answer, at)
    assert list_ids(dump) == other.list_sales(at)
    dump, backup = recover(answer, later)
    assert backup["members"][0]["rows"] == {"sales": 0, "new": 1}
    assert backup["members"][0]["facts"]["charset"] == "latin1"


@pytest.mark.slow
def test_times_of_statements_are_those_of_the_time_zone_of_the_server(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    with servers.logging_mysql("--binlog-format=STATEMENT") as server:
        other = Source(server, tmp_path)
        other.back_up()
        other.sell(2)
        other.run("insert into shop.sales (at) values (now(6))")
        rows = other.run("select id, at from shop.sales order by id")
        start = other.run("select utc_timestamp()")[0][0]
        time.sleep(1.1)
        other.sell(1)
        at = (start + SECOND).replace(tzinfo=UTC)
        monkeypatch.delenv("TZ")
        error = refuse(answer, at)
        assert error["code"] == "recovery-refused"
        assert "+0545" in error["message"]
        command = [sys.executable, "-m", "dbctl", "backup", "recover", "--at", write_time(at), "-o", "json"]
        environment = {**os.environ, "TZ": "Asia/Kathmandu"}
        output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
        backup = json.loads(output)["data"]
        dump = read_dump(Path(backup["path"], backup["members"][0]["file"]))
        assert [row[:2] for row in load(dump)] == rows


def test_missing_and_old_programs_are_reported(monkeypatch, tmp_path):
    required = f"{servers.mysql_server().version[0] + 1}.0.1-MariaDB"
    error = catch_error(RecoveryServerMissingError, lambda: find_programs(required, "shop/main"))
    assert "mariadb-server" in error.hint
    monkeypatch.setattr(server_module, "_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    catch_error(RecoveryServerMissingError, lambda: find_programs("10.6.1-MariaDB", "shop/main"))


def test_backup_without_a_position_is_reported(other, answer, tmp_path, monkeypatch):
    with servers.mysql_database() as url:
        with servers.mysql_connection(url) as own, own.cursor() as cursor:
            cursor.execute("create table t (id int)")
        file = Path("dbctl.toml")
        file.write_text(
            file.read_text().replace(other.server.url.replace("/mysql?", "/shop?"), servers.text(url))
        )
        backup = answer("backup", "create")["data"]
        assert "binlog" not in backup["members"][0]["facts"]
        assert any("log_bin" in remark for remark in backup["remarks"])
        error = refuse(answer, datetime.now(UTC))
        assert error["code"] == "recovery-missing"


@pytest.mark.slow
def test_encrypted_difference_is_a_base(other, answer, monkeypatch, tmp_path):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    identity = pyrage.x25519.Identity.generate()
    file, key_file = Path("dbctl.toml"), Path("identity")
    key_file.write_text(str(identity))
    key_file.chmod(0o600)
    keys = f'incremental = true\nencrypt = {{ recipients = ["{identity.to_public()}"] }}\n'
    file.write_text(file.read_text().replace("[apps.shop.recovery", keys + "[apps.shop.recovery"))
    other.run("insert into shop.sales (at, note) select now(6), uuid() from seq_1_to_5000")
    other.back_up()
    other.sales.clear()
    other.sell(2)
    other.wait_for_next_second()
    member = answer("backup", "create")["data"]["members"][0]
    assert member["delta"]
    assert member["encryption"] == "age"
    other.sell(1)
    at = finish(other)
    assert refuse(answer, at)["code"] == "key-missing"
    words = ["backup", "recover", "--at", write_time(at), "--identity", "identity"]
    backup = answer(*words)["data"]
    (member,) = backup["members"]
    assert member["rows"] == {"sales": len(other.list_sales(at))}
    assert member["encryption"] == "age"
    assert member["delta"] is None


@pytest.mark.slow
def test_history_of_versioned_tables_is_recovered(other, answer):
    other.run(
        "create table shop.prices (id int, price int) with system versioning",
        "insert into shop.prices values (1, 5)",
    )
    other.back_up()
    other.run(
        "update shop.prices set price = 6",
        "set binlog_format = 'row'",
        "update shop.prices set price = 7",
        "insert into shop.prices values (2, 1)",
        "delete from shop.prices where id = 2",
    )
    query = "select id, price, row_start, row_end from shop.prices for system_time all order by row_start, row_end"
    rows = other.run(query)
    dump, backup = recover(answer, finish(other))
    assert backup["members"][0]["rows"]["prices"] == len(rows) == 4
    for _, _, start, _ in rows:
        assert f"'{start:%Y-%m-%d %H:%M:%S.%f}'" in dump
