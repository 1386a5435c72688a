"""The binary log of MariaDB in the repository: every stored second is recovered, and what was lost is reported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.extensions.recover import log_checks
from dbctl.extensions.recover.mariadb import events
from dbctl.extensions.recover.mariadb.events import EventReader
from dbctl.model import now
from dbctl.services.backup import manifest as manifests
from tests import servers, storage
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer
from tests.extensions.reach.processes import wait_until
from tests.extensions.recover.mariadb_source import Source, list_ids, load, read_dump, write_time
from tests.extensions.recover.primary import find_leftovers
from tests.services.backup.test_increments_commands import create_identity
from tests.small_disk import fill, mount_disk

pytestmark = pytest.mark.mariadb
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def fork_server():
    """Start the server of killed commands before the temporary folder of a test exists."""
    return forge.fork_server()


@pytest.fixture
def settings():
    """Return the settings of the server."""
    return ()


@pytest.fixture
def shop(tmp_path, monkeypatch, settings):
    """Return a running server, in the folder of its app, without a configured archive."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with servers.logging_mysql(*settings) as server:
        source = Source(server, tmp_path)
        source.configure(None)
        yield source
        source.kill()


@pytest.fixture
def fail(answer):
    """Run a command that fails with an exit code, and return its error."""
    return lambda *words, status: answer(*words, status=status)["error"]


def follow(answer):
    """Begin with the log, and create the backup from which it is followed."""
    answer("backup", "log")
    return answer("backup", "create")["data"]


def store_log(shop, answer):
    """Store the log, and return the second up to which it has all rows."""
    shop.wait_for_next_second()
    return datetime.fromisoformat(answer("backup", "log")["data"]["until"])


def recover(answer, at, *words):
    """Return the dump of a moment."""
    backup = answer("backup", "recover", "--at", write_time(at), *words)["data"]
    (member,) = backup["members"]
    assert (backup["kind"], datetime.fromisoformat(member["taken_at"])) == ("recovered", at)
    return read_dump(Path(backup["path"], member["file"]))


def assert_recovered(answer, shop, at):
    dump = recover(answer, at)
    expected = shop.list_sales(at)
    assert list_ids(dump) == expected
    assert [row[0] for row in load(dump)] == expected


def read_status(answer):
    (database,) = answer("backup", "status")["data"]["databases"]
    return database["recoverable"]


def list_backups(answer, kind):
    return [item["id"] for item in answer("backup", "list", "--kind", kind)["data"]["items"]]


def change_manifest(backup, **changes):
    """Change the only member of a backup."""
    file = Path("backups/shop", backup, "manifest.json")
    manifest = manifests.parse(file.read_bytes())
    member = structs.replace(manifest.members[0], **changes)
    file.write_text(manifests.serialize(structs.replace(manifest, members=[member])))


def sell_with_changes(shop, answer):
    """Insert rows every 100 ms, with DDL and a deletion between them, and store the log several times; return the moments."""
    follow(answer)
    since = datetime.fromisoformat(read_status(answer)["since"])
    shop.sell(8, pause=0.1)
    answer("backup", "log")
    shop.run(
        "use shop",
        "alter table sales add column price int default 3",
        "create table notes (id int primary key)",
        "insert into notes values (1)",
    )
    shop.sell(12, pause=0.1)
    shop.run("flush binary logs", "set binlog_format = 'row'")
    shop.sell(5, pause=0.1)
    answer("backup", "log")
    shop.delete("id % 2 = 0")
    shop.run("drop table notes", "create table other.t (id int)", "insert into other.t values (1)")
    shop.sell(12, pause=0.1)
    until = store_log(shop, answer)
    shop.sell(1)  # which is lost with the server
    shop.kill()
    shutil.rmtree("state")  # only the repository remains
    return [since + number * SECOND for number in range(int((until - since) / SECOND) + 1)]


@pytest.mark.slow
def test_stored_seconds_have_exactly_the_rows_before_them(shop, answer):
    assert "up to mysql-bin.000001:" in answer("backup", "log", "--dry-run")["data"]["plan"]["steps"][0]
    moments = sell_with_changes(shop, answer)
    assert_recovered(answer, shop, moments[-1])  # though the log has no later event
    for at in create_rng("stored seconds").choices(moments, k=choose_count(2, 10)):
        assert_recovered(answer, shop, at)
    backup = answer("backup", "recover", "--at", "random")["data"]
    (member,) = backup["members"]
    at = datetime.fromisoformat(member["taken_at"])
    assert moments[0] <= at <= moments[-1]
    assert list_ids(read_dump(Path(backup["path"], member["file"]))) == shop.list_sales(at)
    shop.restart()
    answer("backup", "drill", backup["id"])
    (drill,) = answer("backup", "drill", "--at", "random")["data"]["databases"]
    assert moments[0] <= datetime.fromisoformat(drill["as_of"]) <= moments[-1]
    assert find_leftovers() == []


def test_part_has_only_what_was_written_since_the_last_one(shop, answer):
    shop.run("create table shop.big (text longtext)", "insert into shop.big values (repeat(uuid(), 20000))")
    first = answer("backup", "log")["data"]
    assert first["bytes"] > 1000
    assert answer("backup", "log")["data"]["id"] is None
    shop.sell(1)
    second = answer("backup", "log")["data"]
    assert 0 < second["bytes"] < 1000
    parts = [answer("backup", "show", backup)["data"]["members"][0] for backup in list_backups(answer, "log")]
    assert parts[0]["facts"]["start"] == parts[1]["facts"]["end"]
    assert list(Path("state").rglob("mysql-bin*")) == []


def test_moments_outside_the_stored_log_are_refused(shop, answer, fail):
    shop.sell(1)
    at = shop.wait_for_next_second()
    assert fail("backup", "recover", "--at", write_time(at), status=10)["code"] == "repository-missing"
    Path("backups").mkdir()
    assert fail("backup", "recover", "--at", write_time(at), status=2)["code"] == "recovery-not-configured"
    assert fail("backup", "recover", "--at", "random", status=2)["code"] == "usage"
    answer("backup", "log")
    error = fail("backup", "recover", "--at", write_time(at), status=5)
    assert "no copy" in error["message"]
    backup = answer("backup", "create")["data"]
    error = fail("backup", "recover", "--at", write_time(at), status=5)
    assert backup["id"] in error["message"]
    later = shop.wait_for_next_second() + SECOND
    shop.wait_for_next_second()
    error = fail("backup", "recover", "--at", write_time(later), status=5)
    assert "backup log" in error["hint"]


@pytest.mark.slow
def test_backup_records_its_position_only_for_a_stored_log(shop, answer):
    shop.sell(1)
    assert "binlog" not in answer("backup", "create")["data"]["members"][0]["facts"]
    backup = follow(answer)
    assert backup["members"][0]["facts"]["sequence"] == "1"
    partial = answer("backup", "create", "--table", "sales")["data"]
    assert "sequence" not in partial["members"][0]["facts"]
    assert answer("backup", "create")["data"]["remarks"] == []


@pytest.mark.slow
def test_moments_are_recovered_from_the_newest_backup_before_them(shop, answer):
    first = follow(answer)["id"]
    shop.sell(3, pause=0.5)
    answer("backup", "log")
    second = answer("backup", "create")["data"]["id"]
    shop.wait_for_next_second()
    shop.sell(3, pause=0.5)
    until = store_log(shop, answer)
    for at, base in ((shop.sales[2].inserted.replace(microsecond=0), first), (until, second)):
        backup = answer("backup", "recover", "--at", write_time(at))["data"]
        assert backup["members"][0]["facts"]["recovered_base"] == base
        assert list_ids(read_dump(Path(backup["path"], backup["members"][0]["file"]))) == shop.list_sales(at)


@pytest.mark.slow
def test_first_second_is_after_the_snapshot_of_the_backup(shop, answer):
    shop.run("create table shop.big (id int, text longtext)")
    shop.run("insert into shop.big select seq, repeat('x', 20000) from seq_1_to_3000")
    answer("backup", "log")
    process = subprocess.Popen([sys.executable, "-m", "dbctl", "backup", "create"], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        shop.sell(1)
    shop.sell(1)
    store_log(shop, answer)
    since = datetime.fromisoformat(read_status(answer)["since"])
    dump = recover(answer, since)
    assert list_ids(dump) == shop.list_sales(since)


@pytest.mark.slow
def test_unchanged_incremental_backup_is_followed(shop, answer, tmp_path):
    file = tmp_path / "dbctl.toml"
    file.write_text(f"{file.read_text()}incremental = true\n")
    shop.sell(1)
    follow(answer)
    # until the server has written its last checkpoint to the log, which moves the position
    wait_until(lambda: answer("backup", "create")["data"]["members"][0]["stored_in"])
    answer("backup", "verify", "--deep")
    answer("backup", "drill")
    shop.sell(1)
    at = store_log(shop, answer)
    for backup in list_backups(answer, "backup")[1:-1]:
        shutil.rmtree(Path("backups/shop", backup))
    assert_recovered(answer, shop, at)
    assert read_status(answer)["unusable"] == []


@pytest.mark.slow
def test_base_without_its_log_begins_no_range(shop, answer, tmp_path):
    """Prune keeps the base of a retained difference, but only the log since the difference."""
    file = tmp_path / "dbctl.toml"
    file.write_text(f"{file.read_text()}incremental = true\n")
    shop.run("create table shop.much as select seq, repeat(md5(seq), 9) as text from seq_1_to_2000")
    base = follow(answer)["id"]
    shop.sell(1)
    store_log(shop, answer)
    difference = answer("backup", "create")["data"]
    assert difference["bases"] == [base]
    shop.sell(1)
    at = store_log(shop, answer)
    deleted = answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"]
    assert len(deleted) == 2  # parts of the log
    since = datetime.fromisoformat(difference["members"][0]["facts"]["recoverable_since"])
    status = read_status(answer)
    assert (datetime.fromisoformat(status["since"]), status["unusable"]) == (since, [])
    assert_recovered(answer, shop, at)


@pytest.mark.slow
def test_extracted_parts_are_an_archive(shop, answer, tmp_path):
    backup = follow(answer)["id"]
    for _ in range(2):
        shop.sell(2)
        shop.run("flush binary logs")
        answer("backup", "log")
        shop.sell(1)
        at = store_log(shop, answer)
    folder = tmp_path / "logs"
    for part in Path("backups/shop").glob("*/log_*"):
        with tarfile.open(part) as tar:
            tar.extractall(folder, filter="data")
    for part in list_backups(answer, "log"):
        shutil.rmtree(Path("backups/shop", part))
    shop.configure(folder)
    at = shop.sales[-1].inserted.replace(microsecond=0)
    assert_recovered(answer, shop, at)
    assert list_backups(answer, "backup") == [backup]
    next(folder.glob("mysql-bin.000002@*")).unlink()
    error = answer("backup", "recover", "--at", write_time(at), status=5)["error"]
    assert error["code"] == "recovery-time"


def assert_range_begins_again(shop, answer, fail, before):
    """Check that only seconds before a loss are recovered, until a new backup begins a new range."""
    status = read_status(answer)
    assert datetime.fromisoformat(status["until"]) == before
    assert status["unusable"] == list_backups(answer, "log")[:1]
    shop.sell(1)
    at = store_log(shop, answer)
    error = fail("backup", "recover", "--at", write_time(at), status=5)
    assert "had lost the log" in error["message"], error
    assert_recovered(answer, shop, before)
    answer("backup", "create")
    shop.wait_for_next_second()
    shop.sell(1)
    at = store_log(shop, answer)
    assert_recovered(answer, shop, at)
    assert read_status(answer)["unusable"] == []


def purge(shop, first):
    """Begin a new log, and delete those before one; the server does so as soon as it does not require them for itself."""
    shop.run("flush binary logs")
    wait_until(lambda: shop.run(f"purge binary logs to '{first}'", "show binary logs")[0][0] == first)


@pytest.mark.slow
def test_purged_log_is_reported_until_there_is_a_new_backup(shop, answer, fail):
    follow(answer)
    shop.sell(2)
    before = store_log(shop, answer)
    shop.sell(1)
    shop.run("flush binary logs")
    purge(shop, "mysql-bin.000003")
    assert fail("backup", "log", status=4)["code"] == "log-lost"
    assert_range_begins_again(shop, answer, fail, before)


@pytest.mark.slow
def test_purged_log_without_later_transactions_is_no_loss(shop, answer):
    follow(answer)
    shop.sell(2)
    store_log(shop, answer)
    purge(shop, "mysql-bin.000002")
    shop.sell(2)
    assert_recovered(answer, shop, store_log(shop, answer))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5, 40], ids=["shorter", "equal", "longer"])
def test_log_that_begins_again_is_reported(shop, answer, fail, count):
    shop.run("reset master")
    follow(answer)
    shop.sell(5)
    before = store_log(shop, answer)
    end = shop.run("show master status")
    shop.run("reset master")
    shop.sell(count)
    assert (shop.run("show master status") == end) == (count == 5)
    assert fail("backup", "log", status=4)["code"] == "log-lost"
    assert_range_begins_again(shop, answer, fail, before)


@pytest.mark.slow
def test_log_of_another_server_is_refused(shop, answer, fail, tmp_path):
    follow(answer)
    with servers.logging_mysql("--server-id=8") as server:
        Source(server, tmp_path).configure(None)
        error = fail("backup", "log", status=6)
        assert error["code"] == "log-foreign"
        assert len(list_backups(answer, "log")) == 1
    shop.wait_for_next_second()  # the time at which a log began is known in seconds
    with servers.logging_mysql() as server:  # it has the same server_id
        other = Source(server, tmp_path)
        other.sell(20)
        other.configure(None)
        assert fail("backup", "log", status=4)["code"] == "log-lost"
        other.sell(1)
        at = store_log(other, answer)
        assert fail("backup", "recover", "--at", write_time(at), status=5)["code"] == "recovery-time"


@pytest.mark.slow
def test_missing_and_damaged_parts_are_reported(shop, answer, fail):
    follow(answer)
    moments = []
    for _ in range(3):
        shop.sell(1)
        moments.append(store_log(shop, answer))
    last, middle, *_ = list_backups(answer, "log")
    (file,) = Path("backups/shop", middle).glob("log_*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    error = fail("backup", "recover", "--at", write_time(moments[2]), status=None)
    assert error["code"] == "recovery-damaged"
    answer("backup", "verify", status=4)
    assert read_status(answer)["unusable"] == [last]
    shutil.rmtree(file.parent)
    assert read_status(answer)["unusable"] == [last]
    error = fail("backup", "recover", "--at", write_time(moments[2]), status=5)
    assert f"before {last} is missing" in error["message"]
    assert_recovered(answer, shop, moments[0])


@pytest.mark.slow
def test_killed_calls_lose_no_log(fork_server, shop, answer, request):
    follow(answer)
    timer = KillTimer(create_rng(request.node.name), 1.0)
    for number in range(choose_count(5, 30)):
        shop.sell(2)
        if number % 3 == 0:
            shop.run("flush binary logs")
        job = forge.start(
            Path.cwd(), "backup", "log", "-o", "json", environment={"DBCTL_STATE": os.environ["DBCTL_STATE"]}
        )
        timer.send_signal(job)
        forge.wait_for_result(job)
        findings = answer("backup", "verify", status=None)["data"]["findings"]
        assert {finding["code"] for finding in findings} <= {"backup-incomplete"}
    timer.assert_in_time()
    shop.sell(1)
    assert_recovered(answer, shop, store_log(shop, answer))
    assert read_status(answer)["unusable"] == []


@pytest.mark.slow
def test_calls_at_once_store_each_transaction_once(shop, answer):
    follow(answer)
    shop.sell(3)
    command = [sys.executable, "-m", "dbctl", "backup", "log"]
    calls = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    while any(call.poll() is None for call in calls):
        shop.sell(1)
    assert 0 in [call.returncode for call in calls]
    assert_recovered(answer, shop, store_log(shop, answer))
    assert read_status(answer)["unusable"] == []


@pytest.mark.slow
def test_crash_of_the_server_is_followed(shop, answer):
    follow(answer)
    shop.sell(2)
    store_log(shop, answer)
    shop.sell(2)
    shop.kill()
    path = shop.list_logs()[-1]
    *_, last = EventReader(path)
    assert last.kind == events.XID
    path.write_bytes(path.read_bytes()[: last.position])  # its server rolls it back
    lost = shop.sales.pop().id
    shop.restart()
    shop.sell(2)
    at = store_log(shop, answer)
    assert list_ids(recover(answer, at)) == [row for row in shop.list_sales(at) if row != lost]


@pytest.mark.slow
def test_full_disk_loses_no_log(shop, answer, fail, tmp_path):
    with mount_disk(tmp_path / "disk", "64m") as disk:
        file = tmp_path / "dbctl.toml"
        file.write_text(file.read_text().replace('"backups"', f'"{disk}"'))
        follow(answer)
        shop.sell(2)
        fill(disk)
        for _ in range(2):
            assert fail("backup", "log", status=1)["code"] in ("disk-full", "insufficient-space")
        (disk / "filler").unlink()
        assert_recovered(answer, shop, store_log(shop, answer))


def test_full_disk_of_the_state_stores_nothing(shop, answer, fail, tmp_path, monkeypatch):
    follow(answer)
    with mount_disk(tmp_path / "disk", "8m") as disk:
        monkeypatch.setenv("DBCTL_STATE", str(disk))
        shop.run(
            "create table shop.big (text longtext)", "insert into shop.big values (repeat('x', 4000000))"
        )
        fill(disk)
        error = fail("backup", "log", status=1)
        assert error["code"] in ("disk-full", "file-failed", "client-failed"), error
        assert len(list_backups(answer, "log")) == 1


@pytest.mark.slow
def test_prune_keeps_the_log_since_the_earliest_retained_backup(shop, answer, fail):
    answer("backup", "log")
    for _ in range(3):
        answer("backup", "create")
        shop.sell(1)
        store_log(shop, answer)
    _, second, first = list_backups(answer, "backup")
    after_third, after_second, after_first, before = list_backups(answer, "log")
    error = fail("backup", "delete", after_second, "--yes", status=6)
    assert error["code"] == "log-required"
    assert first in error["message"]
    pruned = answer("backup", "prune", "--keep-last", "2", "--yes")["data"]
    assert set(pruned["deleted"]) == {first, after_first, before}
    reasons = {entry["id"]: entry["reasons"] for entry in pruned["retained"]}
    assert reasons[after_second] == reasons[after_third] == [f"the log since {second}"]
    shop.sell(1)
    assert_recovered(answer, shop, store_log(shop, answer))


@pytest.mark.slow
def test_moments_end_at_a_restore_until_the_next_backup(shop, answer, fail):
    backup = follow(answer)["id"]
    shop.sell(2)
    store_log(shop, answer)
    shop.sell(1, pause=1.1)
    findings = answer("restore", "apply", backup, "--yes")["data"]["findings"]
    (finding,) = [finding for finding in findings if finding["code"] == "log-gap"]
    shop.sell(1)
    after = store_log(shop, answer)
    assert fail("backup", "recover", "--at", write_time(after), status=1)["code"] == "recovery-failed"
    answer("backup", "status", "--check", status=3)
    status = read_status(answer)
    assert (status["until"], status["unusable"]) == (status["restored_at"], [])
    answer("backup", "delete", list_backups(answer, "safety")[0], "--yes")
    answer("restore", "apply", backup, "--yes")
    assert read_status(answer) == status
    last = datetime.fromisoformat(status["until"])
    assert f"a restore began at {last:%Y-%m-%d %H:%M:%S} UTC" in finding["message"]
    assert_recovered(answer, shop, last)
    answer("backup", "create")
    shop.wait_for_next_second()  # a second is recovered from a backup that was complete before it
    shop.sell(1)
    dump = recover(answer, store_log(shop, answer))
    assert list_ids(dump) == [row for (row,) in shop.run("select id from shop.sales order by id")]
    assert read_status(answer)["restored_at"] is None
    answer("restore", "apply", backup, "--yes")
    answer("backup", "create")
    assert read_status(answer)["restored_at"] is None


@pytest.mark.slow
@pytest.mark.parametrize("has_copy", [False, True])
def test_moments_end_at_the_first_of_several_restores(shop, answer, has_copy):
    """The safety backup of the first restore, and a copy after it, are deleted."""
    backup = follow(answer)["id"]
    shop.sell(2)
    store_log(shop, answer)
    shop.wait_for_next_second()
    answer("restore", "apply", backup, "--yes")
    first = read_status(answer)["restored_at"]
    shop.wait_for_next_second()
    copy = answer("backup", "create")["data"]["id"] if has_copy else ""
    assert read_status(answer)["restored_at"] == (None if has_copy else first)
    shop.wait_for_next_second()
    answer("restore", "apply", backup, "--yes")
    second, status = list_backups(answer, "safety")[0], read_status(answer)
    assert (status["restored_at"] > first) if has_copy else (status["restored_at"] == first)
    store_log(shop, answer)
    deleted = [name for name in list_backups(answer, "safety") if name != second]
    answer("backup", "delete", *deleted, *filter(None, [copy]), "--yes")
    status = read_status(answer)
    assert (status["restored_at"], status["until"]) == (first, first)


@pytest.mark.slow
def test_prune_keeps_the_part_that_the_next_call_continues(shop, answer, fail):
    answer("backup", "log")
    shop.sell(1)
    answer("backup", "log")
    first = answer("backup", "create")["data"]["id"]
    newest, older = list_backups(answer, "log")
    pruned = answer("backup", "prune", "--keep-last", "1", "--yes")["data"]
    assert pruned["deleted"] == [older]
    reasons = {entry["id"]: entry["reasons"] for entry in pruned["retained"]}
    assert reasons[newest] == [f"the log before {first}, which the next part continues"]
    assert fail("backup", "delete", newest, "--yes", status=6)["code"] == "log-required"
    shop.sell(1)
    assert_recovered(answer, shop, store_log(shop, answer))
    assert read_status(answer)["unusable"] == []


@pytest.mark.slow
def test_encrypted_backup_and_log_are_recovered_with_the_key(shop, answer, fail, tmp_path):
    recipient = create_identity(tmp_path, "key")
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write(f'encrypt.recipients = ["{recipient}"]\n')
    follow(answer)
    shop.sell(2)
    at = store_log(shop, answer)
    assert fail("backup", "recover", "--at", write_time(at), status=None)["code"] == "key-missing"
    words = ["backup", "recover", "--at", write_time(at), "--identity", str(tmp_path / "key")]
    assert answer(*words)["data"]["members"][0]["rows"] == {"sales": 2}
    assert find_leftovers() == []


@pytest.mark.slow
def test_backup_and_log_in_object_storage_are_recovered(shop, answer, tmp_path, monkeypatch, temp_folder):
    bucket = storage.use_new_bucket(monkeypatch, temp_folder)
    file = tmp_path / "dbctl.toml"
    file.write_text(file.read_text().replace('"backups"', f'"s3://{bucket.name}"'))
    follow(answer)
    shop.sell(2)
    at = store_log(shop, answer)
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    assert len(answer("backup", "copy", "--to", str(tmp_path / "copies"))["data"]["copied"]) == 3
    for words in ([], ["--repository", str(tmp_path / "copies")]):
        backup = answer("backup", "recover", "--at", write_time(at), *words)["data"]
        assert backup["members"][0]["rows"] == {"sales": 2}


def test_log_without_the_privileges_is_refused(shop, fail, answer, tmp_path):
    shop.run(
        "create user clerk@localhost identified by 'x'",
        "grant select, show view, trigger, event on shop.* to clerk@localhost",
    )
    file = tmp_path / "dbctl.toml"
    file.write_text(file.read_text().replace("root@", "clerk:x@"))
    for privilege in ("binlog monitor", "replication slave"):
        error = fail("backup", "log", status=None)
        assert error["code"] == "privilege-missing"
        assert "GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO" in error["hint"]
        shop.run(f"grant {privilege} on *.* to clerk@localhost")
    assert answer("backup", "log")["data"]["id"]


@pytest.mark.slow
def test_backup_without_the_rows_of_a_table_is_no_beginning(shop, answer):
    """The log would change rows that it does not have; an earlier backup has them."""
    shop.run("use shop", "create table visits (id int primary key)", "insert into visits values (1)")
    whole = follow(answer)
    file = Path("dbctl.toml")
    text = file.read_text()
    file.write_text(text.replace("[apps.shop.backup]\n", '[apps.shop.backup]\nschema_only = ["visits"]\n'))
    result = answer("backup", "create")
    (member,) = result["data"]["members"]
    assert (member["schema_only"], member["rows"]["visits"]) == (["visits"], 0)
    assert not {"binlog", "gtid", "sequence"} & member["facts"].keys()
    assert any("no later moment can be recovered" in warning for warning in result["warnings"])
    shop.run("use shop", "update visits set id = 2")
    shop.sell(2)
    until = store_log(shop, answer)
    backup = answer("backup", "recover", "--at", write_time(until))["data"]
    (recovered,) = backup["members"]
    assert (recovered["rows"]["visits"], recovered["facts"]["recovered_base"]) == (1, whole["id"])


def test_server_without_a_log_is_refused(fail, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with servers.logging_mysql("--skip-log-bin") as server:
        Source(server, tmp_path).configure(None)
        error = fail("backup", "log", status=6)
        assert error["code"] == "log-unusable"
        assert "log_bin" in error["hint"]


def test_encrypted_log_is_refused(fail, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    folder = Path(os.environ["TMPDIR"])
    key_file = folder / "keys"
    key_file.write_text(f"1;{'ab' * 32}\n")
    settings = ["--plugin-load-add=file_key_management", f"--file-key-management-filename={key_file}"]
    with servers.logging_mysql(*settings, "--encrypt-binlog") as server:
        Source(server, tmp_path).configure(None)
        error = fail("backup", "log", status=6)
        assert error["code"] == "log-unusable"
        assert "encrypt" in error["message"]


def test_clock_that_was_set_back_is_reported(shop, answer):
    follow(answer)
    shop.sell(1)
    assert answer("backup", "log")["data"]["remarks"] == []
    shop.run("set timestamp = unix_timestamp() + 900")
    shop.run("insert into shop.sales (at) values (now())", "set timestamp = default")
    part = answer("backup", "log")["data"]
    assert "set back" in part["remarks"][0]
    change_manifest(part["id"], taken_at=datetime.now(UTC) + timedelta(hours=1))
    shop.sell(1)
    (remark,) = answer("backup", "log")["data"]["remarks"]
    assert "set back" in remark


def test_log_of_a_replica_ends_with_the_last_transaction_of_its_primary(shop, answer):
    """A replica logs transactions with the id and the time of their primary, some of which it does not have yet."""
    shop.run("create table other.own (id int)")
    follow(answer)
    shop.wait_for_next_second()
    shop.run("set server_id = 9", "set timestamp = unix_timestamp() - 1")
    shop.run("insert into shop.sales (at) values (now(6))")
    ((replicated,),) = shop.run("select now()")
    shop.run("set timestamp = default", "set server_id = default", "insert into other.own values (1)")
    part = answer("backup", "log")["data"]
    assert datetime.fromisoformat(part["until"]) == replicated.replace(tzinfo=UTC)
    shop.run("insert into other.own values (2)")
    until = answer("backup", "log")["data"]["until"]  # it need not be a replica any more
    assert datetime.fromisoformat(until) > replicated.replace(tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "count"), [(60, 1), (2, 0)])
def test_doctor_compares_the_clock(shop, answer, monkeypatch, seconds, count):
    answer("backup", "log")
    monkeypatch.setattr(log_checks, "now", lambda: now() + timedelta(seconds=seconds))
    findings = answer("doctor", status=None)["data"]["findings"]
    assert [finding["code"] for finding in findings].count("clock-differs") == count


def test_physical_copy_is_refused(shop, fail):
    error = fail("backup", "create", "--physical", status=2)
    assert error["code"] == "not-supported"
