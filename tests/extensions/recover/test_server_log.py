"""Copies of a server and its log in the repository: every stored moment is recovered, and what was lost is reported."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import tarfile
import time
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from dbctl.errors.backup import BackupFailedError
from dbctl.extensions.recover.postgresql.base import check_archive
from tests import servers, storage
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer
from tests.extensions.reach.processes import wait_until
from tests.extensions.recover.primary import (
    STORED_CONFIGURATION,
    Primary,
    find_leftovers,
    read_sales,
    write_time,
)
from tests.services.backup.test_increments_commands import create_identity
from tests.small_disk import fill, mount_disk

MICROSECOND = timedelta(microseconds=1)
TO_OUTPUT = "-D", "-", "-F", "tar", "-X", "none", "--manifest-checksums=SHA256"


@pytest.fixture(scope="module")
def fork_server():
    """Start the server of killed commands before the temporary folder of a test exists."""
    return forge.fork_server()


def recover(answer, at):
    """Return the ids of the rows in a backup of a moment."""
    backup = answer("backup", "recover", "--at", write_time(at))["data"]
    (member,) = backup["members"]
    ids = read_sales(Path(backup["path"], member["file"]))
    assert member["rows"] == {"sales": len(ids)}
    assert (backup["kind"], datetime.fromisoformat(member["taken_at"])) == ("recovered", at)
    return ids


@pytest.fixture
def fail(answer):
    """Run a command that fails with an exit code, and return its error."""
    return lambda *words, status: answer(*words, status=status)["error"]


def read_status(answer):
    (database,) = answer("backup", "status")["data"]["databases"]
    return database


def list_backups(answer, kind):
    return [item["id"] for item in answer("backup", "list", "--kind", kind)["data"]["items"]]


def read_slots(primary):
    return primary.execute("select slot_name, wal_status from pg_replication_slots")


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_each_stored_moment_is_recovered_after_the_server_has_ended(shop, answer):
    assert answer("backup", "log", "--dry-run")["data"]["plan"]["steps"][0].startswith(
        "create the replication slot"
    )
    assert read_slots(shop) == []
    answer("backup", "log")
    assert len(read_slots(shop)) == 1
    shop.sell(3)
    copy = answer("backup", "create", "--physical")["data"]
    assert (copy["kind"], copy["effect"]["noun"]) == ("physical", "the server of shop/main")
    for _ in range(3):
        shop.sell(4)
        answer("backup", "log")
    deleted = shop.delete("id % 2 = 0")
    log = answer("backup", "log")["data"]
    shop.end()
    for at in (shop.sales[3].inserted, shop.sales[8].inserted + MICROSECOND, deleted, deleted + MICROSECOND):
        assert recover(answer, at) == shop.list_sales(at)
    until = datetime.fromisoformat(log["until"])
    assert recover(answer, until) == shop.list_sales(until)  # though no transaction follows it in the log
    assert find_leftovers() == []


@pytest.mark.slow
def test_stored_log_has_commits_that_did_not_wait_for_the_disk(shop, answer):
    shop.execute("alter system set wal_writer_delay = '10s'")
    shop.execute("select pg_reload_conf()")
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(1)
    shop.execute("set synchronous_commit = off")
    shop.sell(3)
    until = datetime.fromisoformat(answer("backup", "log")["data"]["until"])
    assert recover(answer, until) == shop.list_sales(until) == [1, 2, 3, 4]


@contextmanager
def run_standby(primary):
    """Run a standby, and yield a connection and its address."""
    place = primary.folder / "standby"
    owner = (primary.folder / "data").stat()
    as_user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    program = servers.client("pg_basebackup", primary.server.url)
    copy = [program, "-d", primary.server.url, "-D", place / "data", "-c", "fast", "-R"]
    subprocess.run(copy, check=True, cwd=primary.folder, capture_output=True, **as_user)
    settings = ("listen_addresses=", f"unix_socket_directories={place}", "track_commit_timestamp=on")
    words = [word for setting in settings for word in ("-c", setting)]
    process = subprocess.Popen(
        [primary.server.process.args[0], "-D", place / "data", *words],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **as_user,
    )
    url, deadline = primary.server.url.replace(str(primary.folder), str(place)), time.monotonic() + 30
    try:
        while True:
            try:
                connection = psycopg.connect(url, autocommit=True)
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                break
        with closing(connection):
            yield connection, url
    finally:
        process.send_signal(primary.server.end)
        process.wait(timeout=30)


def wait_for_sales(connection, count):
    deadline = time.monotonic() + 30
    while connection.execute("select count(*) from sales").fetchone() != (count,):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_log_of_a_standby_ends_with_the_last_transaction_that_it_replayed(shop, answer, tmp_path):
    with run_standby(shop) as (standby, url):
        (tmp_path / "dbctl.toml").write_text(STORED_CONFIGURATION.format(url=url))
        shop.sell(1)
        wait_for_sales(standby, 1)
        answer("backup", "log")
        (remark,) = answer("backup", "create", "--physical")["data"]["remarks"]
        assert "CHECKPOINT" in remark  # the copy of a standby begins there
        assert read_status(answer)["recoverable"]["unusable"] == []
        shop.execute("checkpoint")
        shop.sell(1)
        wait_for_sales(standby, 2)
        assert answer("backup", "create", "--physical")["data"]["remarks"] == []
        standby.execute("select pg_wal_replay_pause()")
        shop.sell(2)
        until = datetime.fromisoformat(answer("backup", "log")["data"]["until"])
        assert until == shop.sales[1].inserted + MICROSECOND
        assert recover(answer, until) == [1, 2]


def test_log_without_new_transactions_is_not_stored_again(shop, answer):
    answer("backup", "log")
    shop.sell(1)
    first = answer("backup", "log")["data"]
    second = answer("backup", "log")["data"]
    assert (second["id"], second["bytes"], second["effect"]) == (None, 0, None)
    assert second["until"] == first["until"]
    assert len(list_backups(answer, "log")) == 2
    assert answer("backup", "list")["data"]["items"] == []


@pytest.mark.slow
def test_random_moments_are_recovered_and_drilled(shop, answer, fail):
    Path("backups").mkdir()
    assert fail("backup", "recover", "--at", "random", status=2)["code"] == "usage"
    answer("backup", "log")
    copy = answer("backup", "create", "--physical")["data"]
    shop.sell(5, pause=0.05)
    answer("backup", "log")
    recoverable = read_status(answer)["recoverable"]
    assert recoverable["since"] == copy["members"][0]["taken_at"]
    for _ in range(2):
        backup = answer("backup", "recover", "--at", "random")["data"]
        (member,) = backup["members"]
        at = datetime.fromisoformat(member["taken_at"])
        assert recoverable["since"] <= member["taken_at"] <= recoverable["until"]
        assert read_sales(Path(backup["path"], member["file"])) == shop.list_sales(at)
        answer("backup", "drill", backup["id"])
        assert list(answer("backup", "show", backup["id"])["data"]["drills"]) == ["main"]


@pytest.mark.slow
def test_moments_outside_the_stored_log_are_refused(shop, answer, fail):
    start_time = datetime.now().astimezone()
    error = fail("backup", "recover", "--at", write_time(start_time), status=10)
    assert error["code"] == "repository-missing"  # its disk may not be mounted
    Path("backups").mkdir()
    error = fail("backup", "recover", "--at", write_time(start_time), status=2)
    assert error["code"] == "recovery-not-configured"
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(1)
    error = fail("backup", "recover", "--at", write_time(start_time), status=5)
    assert "ended at" in error["message"]
    error = fail("backup", "recover", "--at", write_time(datetime.now().astimezone()), status=5)
    assert "none of its log is stored" in error["message"]


@pytest.mark.slow
def test_copy_before_the_log_is_reported_as_useless(shop, answer, fail):
    copy = answer("backup", "create", "--physical")["data"]
    assert "no log was stored" in copy["remarks"][0]
    shop.sell(1)
    part = answer("backup", "log")["data"]["id"]
    recoverable = read_status(answer)["recoverable"]
    assert recoverable["since"] == recoverable["until"] == copy["members"][0]["taken_at"]
    assert recoverable["unusable"] == [part]
    error = fail("backup", "recover", "--at", write_time(shop.sales[-1].inserted), status=5)
    assert "no log was stored before the copy" in error["message"]
    answer("backup", "create", "--physical")
    shop.sell(1)
    answer("backup", "log")
    assert read_status(answer)["recoverable"]["unusable"] == []
    at = shop.sales[-1].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)


@pytest.mark.slow
def test_missing_part_of_the_log_is_reported(shop, answer, fail, tmp_path):
    answer("backup", "log")
    answer("backup", "create", "--physical")
    for _ in range(3):
        shop.sell(1)
        answer("backup", "log")
    last, missing, *_ = list_backups(answer, "log")
    shutil.rmtree(tmp_path / "backups/shop" / missing)
    assert read_status(answer)["recoverable"]["unusable"] == [last]
    error = fail("backup", "recover", "--at", write_time(shop.sales[-1].inserted), status=5)
    assert f"before {last} is missing" in error["message"]
    at = shop.sales[0].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)


@pytest.mark.slow
def test_killed_calls_lose_no_log(fork_server, shop, answer, request):
    answer("backup", "log")
    answer("backup", "create", "--physical")
    timer = KillTimer(create_rng(request.node.name), 1.0)
    for _ in range(choose_count(4, 30)):
        shop.sell(2)
        shop.execute(
            "select pg_switch_wal()"
        )  # finished segments, which the server forgets when they were received
        job = forge.start(
            Path.cwd(), "backup", "log", "-o", "json", environment={"DBCTL_STATE": os.environ["DBCTL_STATE"]}
        )
        timer.send_signal(job)
        forge.wait_for_result(job)
        wait_until(lambda: not shop.execute("select 1 from pg_replication_slots where active"))
        assert {
            finding["code"] for finding in answer("backup", "verify", status=None)["data"]["findings"]
        } <= {"backup-incomplete"}
    shop.sell(1)
    answer("backup", "log")
    at = shop.sales[-1].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)
    assert read_status(answer)["recoverable"]["unusable"] == []


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_log_that_the_server_lost_is_reported_until_there_is_a_new_copy(shop, answer, fail):
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(2)
    answer("backup", "log")
    before = datetime.fromisoformat(read_status(answer)["recoverable"]["until"])
    ((slot, _),) = read_slots(shop)
    shop.execute(f"select pg_drop_replication_slot('{slot}')")
    shop.sell(1)
    for _ in range(3):
        shop.execute("select pg_switch_wal()")
        shop.execute("checkpoint")
        shop.sell(1)
    error = fail("backup", "log", status=4)
    assert error["code"] == "log-lost"
    recoverable = read_status(answer)["recoverable"]
    assert datetime.fromisoformat(recoverable["until"]) == before
    assert recoverable["unusable"] == list_backups(answer, "log")[:1]
    error = fail("backup", "recover", "--at", write_time(shop.sales[-1].inserted), status=5)
    assert "had lost the log" in error["message"]
    assert recover(answer, before) == shop.list_sales(before)
    answer("backup", "create", "--physical")
    shop.sell(1)
    answer("backup", "log")
    at = shop.sales[-1].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)
    assert read_status(answer)["recoverable"]["unusable"] == []


@pytest.mark.slow
def test_prune_keeps_the_log_since_the_earliest_retained_copy(shop, answer, fail):
    answer("backup", "log")
    for _ in range(3):
        answer("backup", "create", "--physical")
        shop.sell(1)
        answer("backup", "log")
    third, second, first = list_backups(answer, "physical")
    after_third, after_second, after_first, before = list_backups(answer, "log")
    error = fail("backup", "delete", after_second, "--yes", status=6)
    assert (error["code"], after_second in error["message"], first in error["message"]) == (
        "log-required",
        True,
        True,
    )
    pruned = answer("backup", "prune", "--keep-last", "2", "--yes")["data"]
    assert set(pruned["deleted"]) == {first, after_first, before}
    reasons = {entry["id"]: entry["reasons"] for entry in pruned["retained"]}
    assert reasons[after_second] == reasons[after_third] == [f"the log since {second}"]
    at = shop.sales[-1].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)
    assert third in reasons


@pytest.mark.slow
def test_prune_keeps_the_part_that_the_next_call_continues(shop, answer):
    answer("backup", "log")
    answer("backup", "create", "--physical")
    assert answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == []
    shop.sell(1)
    answer("backup", "log")
    at = shop.sales[-1].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["physical", "log"])
def test_damaged_file_without_compression_is_not_replayed(shop, answer, fail, tmp_path, form):
    """Nothing decompresses it, and a page of a server need not have a checksum."""
    file = tmp_path / "dbctl.toml"
    file.write_text(file.read_text().replace('"backups"', '"backups"\nbackup.compress = "none"'))
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(1)
    answer("backup", "log")
    (path,) = (tmp_path / "backups/shop" / list_backups(answer, form)[0]).glob("*.tar")
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(content)
    at = shop.sales[-1].inserted + MICROSECOND
    error = fail("backup", "recover", "--at", write_time(at), status=4)
    assert (error["code"], path.name in error["message"]) == ("recovery-damaged", True)


@pytest.mark.slow
def test_prune_keeps_the_log_since_a_damaged_copy(shop, answer, tmp_path):
    """A copy whose verification failed can be a valid one: prune deletes neither it nor what it needs."""
    answer("backup", "log")
    for _ in range(2):
        answer("backup", "create", "--physical")
        shop.sell(1)
        answer("backup", "log")
    (_, first), (*after, before) = list_backups(answer, "physical"), list_backups(answer, "log")
    (path,) = (tmp_path / "backups/shop" / first).glob("server_*")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    for limit in (["--keep-last", "1"], ["--max-bytes", "1"]):
        plan = answer("backup", "prune", *limit, "--dry-run")["data"]["plan"]["steps"]
        assert [step.split()[1] for step in plan if step.startswith("delete ")] == [before]
    assert answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == [before]
    path.write_bytes(content)
    at = shop.sales[0].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)
    assert set(after) == set(list_backups(answer, "log"))


@pytest.mark.slow
def test_limit_of_bytes_deletes_a_copy_together_with_its_log(shop, answer):
    for _ in range(2):
        answer("backup", "create", "--physical")
        shop.sell(1)
        answer("backup", "log")
    (second, first), (after_second, after_first) = (
        list_backups(answer, "physical"),
        list_backups(answer, "log"),
    )
    items = [
        item
        for kind in ("physical", "log")
        for item in answer("backup", "list", "--kind", kind)["data"]["items"]
    ]
    sizes = {item["id"]: item["bytes"] for item in items}
    limit = sizes[second] + sizes[after_second] + sizes[after_first] // 2
    pruned = answer("backup", "prune", "--max-bytes", str(limit), "--yes")["data"]
    assert set(pruned["deleted"]) == {first, after_first}


def test_log_without_a_copy_is_not_pruned(shop, answer):
    answer("backup", "log")
    shop.sell(1)
    answer("backup", "log")
    assert answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == []


def test_copy_is_no_backup_to_restore(shop, answer, fail):
    copy = answer("backup", "create", "--physical")["data"]["id"]
    for words in (
        ["restore", "preview", copy],
        ["restore", "apply", copy, "--yes"],
        ["backup", "drill", copy],
    ):
        error = fail(*words, status=2)
        assert "backup recover" in error["hint"] or "whole server" in error["message"], error
    assert fail("restore", "apply", "latest", "--yes", status=5)["code"] == "backup-missing"
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    assert read_status(answer)["backups"] == 0


@pytest.mark.parametrize(
    "words", [["backup", "log"], ["backup", "create", "--physical"]], ids=["log", "copy"]
)
def test_other_engines_are_refused(words, answer, tmp_path, monkeypatch):
    sqlite3.connect(tmp_path / "shop.db").close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dbctl.toml").write_text(STORED_CONFIGURATION.format(url="shop.db"))
    error = answer(*words, status=2)["error"]
    assert (error["code"], "PostgreSQL" in error["hint"]) == ("not-supported", True)


def test_options_of_other_copies_are_refused(shop, fail):
    for words in (["--full"], ["--table", "sales"], ["--compress", "none"]):
        assert fail("backup", "create", "--physical", *words, status=2)["code"] == "usage"


@pytest.mark.slow
def test_encrypted_copy_and_log_are_recovered_with_the_key(shop, answer, fail, tmp_path):
    recipient = create_identity(tmp_path, "key")
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write(f'backup.encrypt.recipients = ["{recipient}"]\n')
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(2)
    answer("backup", "log")
    at = shop.sales[-1].inserted
    assert fail("backup", "recover", "--at", write_time(at), status=None)["code"] == "key-missing"
    backup = answer("backup", "recover", "--at", write_time(at), "--identity", str(tmp_path / "key"))["data"]
    assert backup["members"][0]["rows"] == {"sales": 1}
    assert find_leftovers() == []


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_log_is_followed_to_another_timeline(shop, answer):
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(2)
    answer("backup", "log")
    shop.begin_timeline()
    shop.sell(2)
    answer("backup", "log")
    for at in (shop.sales[1].inserted + MICROSECOND, shop.sales[-1].inserted + MICROSECOND):
        assert recover(answer, at) == shop.list_sales(at)


def test_user_without_the_privilege_is_refused(shop, answer, fail, tmp_path):
    shop.execute("create role shop login; grant all on schema public to shop")
    file = tmp_path / "dbctl.toml"
    file.write_text(file.read_text().replace("postgres@", "shop@"))
    for words in (["backup", "log"], ["backup", "create", "--physical"]):
        error = fail(*words, status=None)
        assert error["code"] == "privilege-missing", error
    assert answer("backup", "list", status=None)["data"] in (None, {}) or list_backups(answer, "log") == []
    assert read_slots(shop) == []


def test_server_without_a_line_for_replication_retains_no_log_for_a_refused_call(shop, fail):
    ((file,),) = shop.execute("show hba_file")
    Path(file).write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    shop.execute("select pg_reload_conf()")
    error = fail("backup", "log", status=6)
    assert error["code"] == "privilege-missing", error
    assert "host replication" in error["hint"], error
    assert read_slots(shop) == []


@pytest.mark.slow
def test_log_of_another_server_is_refused(shop, answer, fail, tmp_path):
    answer("backup", "log")
    with servers.own_postgresql("work_mem=5MB") as other:  # servers with the same settings are copies of one
        (tmp_path / "dbctl.toml").write_text(STORED_CONFIGURATION.format(url=other.url))
        second = Primary(other)
        assert fail("backup", "log", status=6)["code"] == "log-foreign"
        second.end()


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_copy_with_a_wrong_checksum_is_no_backup(shop, tmp_path):
    archive = tmp_path / "base.tar"
    with archive.open("wb") as file:
        subprocess.run(
            [servers.client("pg_basebackup", shop.server.url), "-d", shop.server.url, *TO_OUTPUT],
            stdout=file,
            check=True,
        )
    content = archive.read_bytes()
    with tarfile.open(archive) as tar:
        position = next(member.offset_data for member in tar if member.name == "global/pg_control") + 100
    assert check_archive(io.BytesIO(content), "shop/main").ranges
    for changed in (
        content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :],
        content[: len(content) // 2],
        b"",
    ):
        with pytest.raises(BackupFailedError):
            check_archive(io.BytesIO(changed), "shop/main")


@pytest.mark.slow
def test_killed_copy_leaves_no_backup(fork_server, shop, answer, request):
    answer("backup", "log")
    timer = KillTimer(create_rng(request.node.name), 1.0)
    for _ in range(choose_count(3, 30)):
        job = forge.start(Path.cwd(), "backup", "create", "--physical", "-o", "json")
        timer.send_signal(job)
        status, _ = forge.wait_for_result(job)
        wait_until(lambda: not shop.execute("select 1 from pg_stat_replication"))
        codes = {finding["code"] for finding in answer("backup", "verify", status=None)["data"]["findings"]}
        assert codes <= {"backup-incomplete"}
        assert status or list_backups(answer, "physical")
    answer("backup", "create", "--physical")
    shop.sell(1)
    answer("backup", "log")
    at = shop.sales[-1].inserted + MICROSECOND
    assert recover(answer, at) == shop.list_sales(at)


@pytest.mark.slow
def test_copy_and_log_in_object_storage_are_recovered(shop, answer, tmp_path, monkeypatch, temp_folder):
    bucket = storage.use_new_bucket(monkeypatch, temp_folder)
    file = tmp_path / "dbctl.toml"
    file.write_text(file.read_text().replace('"backups"', f'"s3://{bucket.name}"'))
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(2)
    answer("backup", "log")
    backup = answer("backup", "recover", "--at", write_time(shop.sales[-1].inserted))["data"]
    assert backup["members"][0]["rows"] == {"sales": 1}
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    assert len(answer("backup", "copy", "--to", str(tmp_path / "copies"))["data"]["copied"]) == 4


@pytest.mark.slow
def test_full_disk_leaves_the_fetched_log_for_the_next_call(shop, answer, fail, tmp_path):
    with mount_disk(tmp_path / "disk", "64m") as disk:
        file = tmp_path / "dbctl.toml"
        file.write_text(file.read_text().replace('"backups"', f'"{disk}"'))
        answer("backup", "log")
        shop.sell(2)
        ((name,),) = shop.execute("select pg_walfile_name(pg_switch_wal())")
        fill(disk)
        for _ in range(2):
            assert fail("backup", "log", status=1)["code"] in ("disk-full", "insufficient-space")
            assert list((tmp_path / "state").rglob(name))
        (disk / "filler").unlink()
        log = answer("backup", "log")["data"]
        (folder,) = disk.glob(f"*/{log['id']}")
        with tarfile.open(next(folder.glob("log_main_*"))) as tar:
            assert name in tar.getnames()
        assert not list((tmp_path / "state").rglob(name))
