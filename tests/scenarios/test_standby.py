"""Commands with a primary and a streaming standby: reads, backups, lag, conflicts, promotion, failover."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from dbctl.engines.postgresql.database import PostgreSQLReader
from dbctl.errors.operations import ReplicaConflictError
from dbctl.url import parse_url
from tests import servers
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.databases import PostgreSQL
from tests.sandbox import start_private, start_standby
from tests.services import larder_app
from tests.services.larder_app import ANA
from tests.shapes.flashpoint_web import PASSWORD_HASH

pytestmark = pytest.mark.slow
READS = [
    ["users", "list"],
    ["users", "show", "ana"],
    ["roles", "list"],
    ["settings", "list"],
    ["settings", "validate"],
    ["integrity", "check"],
    ["integrity", "cross-check"],
    ["stats", "activity"],
    ["stats", "user", "ana"],
    ["stats", "reports"],
    ["search", "all", "soup"],
    ["data", "rows", "recipes"],
    ["data", "query", "select count(*) as n from recipes"],
    ["schema", "show", "recipes"],
    ["apps", "check"],
    ["sessions", "cleanup", "--check"],
]
#: Reads whose results depend on the server.
STATISTICS = [
    ["status"],
    ["stats", "overview"],
    ["stats", "tables"],
    ["stats", "connections"],
    ["stats", "locks"],
    ["stats", "indexes"],
    ["stats", "bloat"],
]
WRITES = [
    ["users", "create", "zed", "--email", "zed@larder.example", "--role", "cook", "--generate"],
    ["users", "deactivate", "ana"],
    ["users", "set-role", "ana", "guest"],
    ["users", "delete", "ana", "--yes"],
    ["settings", "set", "kitchen.title", "Pantry"],
    ["data", "set", "members", ANA, "mail=x@larder.example"],
    ["data", "delete", "members", ANA, "--yes"],
    ["sessions", "cleanup", "--yes"],
    ["maintain", "vacuum"],
    ["maintain", "analyze"],
    ["restore", "apply", "latest", "--yes"],
]


class Pair(PostgreSQL):
    """Larder on a primary, and its configuration with a standby."""

    def __init__(self, primary, standby, folder):
        super().__init__(parse_url(primary.url))
        self.primary, self.standby, self.folder = primary, standby, folder
        self.configure()
        with closing(primary.connection()) as connection:
            script = larder_app.SCRIPT.read_text(encoding="utf-8")
            connection.execute(script.replace(":password_hash", f"'{PASSWORD_HASH}'"))
        standby.wait_for_replay()

    def configure(self, *, max_lag="60s", standby_url=""):
        larder_app.configure(self.folder, self.primary.url)
        with (self.folder / "dbctl.toml").open("a") as file:
            url = standby_url or self.standby.url
            file.write(f'[apps.larder.replicas.pantry]\nurl = "{url}"\nmax_lag = "{max_lag}"\n')


@contextmanager
def create_pair(folder):
    with start_private("autovacuum=off") as primary, start_standby(primary) as standby:
        yield Pair(primary, standby, folder)


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory):
    with create_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture
def pair(shared_pair, monkeypatch):
    monkeypatch.chdir(shared_pair.folder)
    shared_pair.configure()
    return shared_pair


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_reads_return_the_same_from_the_replica(pair, answer, words):
    expected = answer(*words, status=None)
    result = answer(*words, "--replica", status=None)
    for volatile in ("seconds", "duration"):
        expected["data"].pop(volatile, None) if isinstance(expected["data"], dict) else None
        result["data"].pop(volatile, None) if isinstance(result["data"], dict) else None
    assert result == expected


@pytest.mark.parametrize("words", STATISTICS, ids=" ".join)
def test_statistics_are_read_from_the_replica(pair, answer, words):
    assert answer(*words, "--replica")["data"]["items"] is not None


def test_doctor_accepts_replica_and_reports_standby_as_primary(pair, answer):
    codes = [finding["code"] for finding in answer("doctor", "--replica", status=None)["data"]["findings"]]
    assert not {"standby", "replica-foreign", "replica-promoted"} & set(codes)
    findings = answer("doctor", "--url", f"pantry={pair.standby.url}", status=4)["data"]["findings"]
    assert ("standby", "error") in [(finding["code"], finding["severity"]) for finding in findings]


@pytest.mark.parametrize("words", WRITES, ids=lambda words: " ".join(words[:2]))
def test_writes_are_refused(pair, answer, words):
    answer("backup", "create")
    before = pair.content()
    refused = answer(*words, "--replica", status=6)
    assert refused["error"]["code"] == "replica-read-only"
    on_standby = answer(*words, "--url", f"pantry={pair.standby.url}", status=6)
    assert on_standby["error"]["code"] == "read-only"
    assert pair.content() == before


def test_backup_from_replica_restores_primary(pair, answer):
    content = pair.content()
    created = answer("backup", "create", "--replica")["data"]
    assert answer("backup", "verify", "--deep")["data"]["findings"] == []
    pair.run("update members set mail = handle || '@changed.example'")
    answer("restore", "apply", created["id"], "--yes")
    assert pair.content() == content
    pair.standby.wait_for_replay()


def test_backups_from_replica_are_those_of_the_database(pair, answer):
    primary, standby = (
        # The address of a server is without options, such as its socket.
        f"postgresql://postgres@{quote(server.url.partition('?host=')[2], safe='')}/postgres"
        for server in (pair.primary, pair.standby)
    )

    def configure(database, replica):
        larder_app.configure(pair.folder, database)
        with (pair.folder / "dbctl.toml").open("a") as file:
            file.write(f'[apps.larder.replicas.pantry]\nurl = "{replica}"\n')

    configure(primary, standby)
    names = [
        answer("backup", "create", *words)["data"]["id"] for words in ((), ("--replica",), ("--replica",))
    ]
    for words in ((), ("--replica",)):
        (database,) = answer("backup", "status", *words)["data"]["databases"]
        assert database["newest"] == names[-1], words
    configure(standby, primary)  # as after a failover
    (database,) = answer("backup", "status")["data"]["databases"]
    assert database["newest"] == names[-1]
    configure(primary, standby)
    assert answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"][:2] == names[1::-1]


def test_lag_is_measured_and_limited(pair, answer):
    pair.configure(max_lag="0s")
    (row,) = answer("stats", "overview", "--replica")["data"]["items"]
    assert (row["lag_seconds"], row["lag_bytes"]) == (0, 0)
    with closing(pair.standby.connection()) as standby:
        standby.execute("select pg_wal_replay_pause()")
        try:
            pair.run("update members set mail = mail")
            refused = answer("users", "list", "--replica", "--timeout", "0.3", status=6)
            assert refused["error"]["code"] == "replica-lag"
            doctor = answer("doctor", "--timeout", "0.3", status=4)
            assert "replica-lag" in [finding["code"] for finding in doctor["data"]["findings"]]
            assert answer("status", "--check", "--timeout", "0.3", status=3)["exit_code"] == 3
            pair.configure(max_lag="1h")
            (row,) = answer("stats", "overview", "--replica")["data"]["items"]
            assert row["lag_seconds"] > 0
            assert row["lag_bytes"] > 0
            pair.configure(max_lag="0s")
            resume = threading.Timer(0.5, lambda: standby.execute("select pg_wal_replay_resume()"))
            resume.start()
            answer("users", "list", "--replica", "--timeout", "30")  # it waits until the replica is current
            resume.join()
            standby.execute("select pg_wal_replay_pause()")
            pair.run("update members set mail = mail")
            resume = threading.Timer(6, lambda: standby.execute("select pg_wal_replay_resume()"))
            resume.start()  # one attempt to open the replica waits for five seconds
            (row,) = answer("wait", "--replica")["data"]["items"]
            assert (row["state"], row["waited"] > 5) == ("ok", True)
            resume.join()
        finally:
            standby.execute("select pg_wal_replay_resume()")


def test_unknown_lag_is_refused(pair, answer, tmp_path):
    """A standby that applies changes one hour late, and has applied none since its start."""
    with start_standby(pair.primary, "recovery_min_apply_delay=1h") as late:
        pair.run("update members set mail = mail")
        deadline = time.monotonic() + 30
        pair.configure(standby_url=late.url, max_lag="24h")
        while (result := answer("users", "list", "--replica", "--timeout", "0", status=None))[
            "exit_code"
        ] != 6:
            assert time.monotonic() < deadline, result
        assert result["error"]["code"] == "replica-lag"


def test_replica_of_another_database_is_reported(pair, answer):
    pair.run("create database other")
    pair.standby.wait_for_replay()
    pair.configure(standby_url=pair.standby.url.replace("/postgres?", "/other?"))
    codes = [finding["code"] for finding in answer("doctor", status=4)["data"]["findings"]]
    assert "replica-foreign" in codes


def test_canceled_read_is_reported_as_conflict(pair, answer):
    pair.run("create table conflicting (id int)")
    with start_standby(pair.primary, "max_standby_streaming_delay=0") as strict:
        with (
            closing(PostgreSQLReader(parse_url(strict.url), "larder/pantry")) as db,
            pytest.raises(ReplicaConflictError),
            db.connection.read_transaction(),
        ):
            db.connection.fetch("select count(*) from conflicting")
            pair.run("drop table conflicting")
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                db.connection.fetch("select count(*) from conflicting")
                time.sleep(0.02)
        pair.configure(standby_url=strict.url)
        codes = {finding["code"]: finding for finding in answer("doctor", status=None)["data"]["findings"]}
        assert codes["replica-cancels-reads"]["severity"] == "info"


def test_replica_works_without_primary_and_promotion_is_detected(tmp_path, monkeypatch, answer):
    with create_pair(tmp_path) as pair:
        monkeypatch.chdir(tmp_path)
        expected = answer("users", "list")
        pair.run("update members set mail = mail")  # so that the standby has a newest change
        pair.standby.wait_for_replay()
        pair.primary.kill()
        assert answer("users", "list", "--replica") == expected
        answer("backup", "create", "--replica")
        assert answer("users", "list", status=10)["error"]["code"] == "unreachable"
        pair.configure(max_lag="0s")
        refused = answer("users", "list", "--replica", "--timeout", "0", status=6)
        assert refused["error"]["code"] == "replica-lag"
        pair.standby.promote()
        refused = answer("users", "list", "--replica", status=6)
        assert refused["error"]["code"] == "replica-promoted"
        codes = [finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]]
        assert {"unreachable", "replica-promoted"} <= set(codes)
        larder_app.configure(tmp_path, pair.standby.url)  # the new primary
        answer("users", "deactivate", "ana")


#: Rows for a table of Larder.
LABELS = "recipe_uuid,label\n" + "".join(
    f"b2c8d1ef-0000-4000-8000-000000000003,label {number}\n" for number in range(2000)
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_standby_with_full_disk_is_refused(pair, answer):
    """It cannot receive changes; reads return no old rows, and the primary is not affected."""
    with tempfile.TemporaryDirectory(prefix="dbctl-disk-", dir=servers.data_folder()) as disk:
        mount = ["mount", "-t", "tmpfs", "-o", "size=128m,mode=755", "tmpfs", disk]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
        try:
            with start_standby(pair.primary, parent=disk) as full:
                pair.configure(standby_url=full.url, max_lag="1s")
                answer("users", "list", "--replica", "--timeout", "30")
                fill_disk(Path(disk))
                pair.run("create table large (text text)")
                pair.run("insert into large select repeat('x', 2000) from generate_series(1, 20000)")
                deadline = time.monotonic() + 60
                while not (refused := answer("users", "list", "--replica", "--timeout", "0", status=None))[
                    "exit_code"
                ]:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                assert refused["error"]["code"] in ("unreachable", "replica-lag")
                assert answer("settings", "list")["data"]["items"]
                assert answer("status", "--check", "--timeout", "0", status=3)["exit_code"] == 3
                pair.run("drop table large")
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


def fill_disk(folder):
    with suppress(OSError), (folder / "filler").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


@pytest.mark.parametrize("words", larder_app.WRITES, ids=lambda words: " ".join(words[:2]))
def test_failover_leaves_old_or_new_state(tmp_path, words):
    """The primary ends during a command, and its synchronous standby takes over."""
    random = create_rng(f"failover {words}")
    for number in range(choose_count(1, 20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with create_pair(folder) as pair:
            (folder / "rows.csv").write_text(LABELS)
            status, _ = forge.wait_for_result(forge.start(folder, "backup", "create", "-o", "json"))
            assert status == 0
            pair.run("update members set mail = handle || '@changed.example'")
            pair.run(larder_app.CHANGE_SETTING)
            pair.run(
                "alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"
            )  # an acknowledged commit is on both
            old = pair.content()
            process = forge.start(folder, *words, "-o", "json")
            time.sleep(random.uniform(0.0, 0.25))
            pair.primary.kill()
            status, result = forge.wait_for_result(process)
            pair.standby.promote()
            new = PostgreSQL(parse_url(pair.standby.url)).content()
            code = result["error"]["code"] if status else ""
            if not status:
                assert new != old, json.dumps(result)
            elif code != "commit-in-doubt":
                assert new == old, result
