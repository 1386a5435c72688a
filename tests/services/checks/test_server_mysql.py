"""Commands for MySQL and MariaDB servers."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing

import pymysql
import pytest
from jsonschema import Draft202012Validator

from tests import servers
from tests.profiles.test_larder import PROFILE, MySQLShelf
from tests.services.checks.test_server import list_page_commands
from tests.services.larder_app import fill_mysql
from tools import reference

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))
#: Commands that MySQL and MariaDB do not support.
REFUSED = ("maintain vacuum", "maintain checkpoint")


@pytest.fixture
def larder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = servers.private_mysql("--performance-schema=ON")
    with servers.mysql_database(server=server) as url, closing(MySQLShelf(url)) as database:
        with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:
            fill_mysql(cursor)
        recommended = (
            '[databases.pantry.recommended.mysql]\nmax_connections = 500\ninnodb_page_size = "64K"\n'
        )
        profile = PROFILE.read_text(encoding="utf-8").replace("\n[users]", f"\n{recommended}\n[users]", 1)
        (tmp_path / "larder.toml").write_text(profile, encoding="utf-8")
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.larder]\nprofile = "larder.toml"\n[apps.larder.databases]\npantry = "{database.url}"\n',
            encoding="utf-8",
        )
        database.address = url
        yield database


@pytest.fixture
def run_json(answer):
    def run(command_line, status=0):
        response = answer(*command_line.split(), status=status)
        if "--columns" not in command_line:
            schema = {**SCHEMAS["answers"][response["schema"]], "$defs": SCHEMAS["$defs"]}
            Draft202012Validator(schema).validate(response)
        return response["error"] or response["data"]

    return run


def test_commands_of_the_how_to_page_run_or_are_refused(larder, run_json):
    for line in dict.fromkeys(list_page_commands()):
        response = run_json(line, status=2 if line.startswith(REFUSED) else 0)
        assert "code" not in response or response["code"] == "not-supported"


def test_lock_wait_is_reported_and_cancelled(larder, run_json):
    with closing(servers.mysql_connection(larder.address)) as other:
        holder = larder._connection
        holder.begin()
        larder.rows("update members set mail = 'new@larder.example' where handle = 'pip'")
        results = []

        def run():
            try:
                with other.cursor() as cursor:
                    cursor.execute("delete from members where handle = 'pip'")
                results.append(0)
            except pymysql.Error as error:
                results.append(error.args[0])

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 60
        while not (waits := run_json("stats locks --waiting")["items"]) or waits[0]["waiting_seconds"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (wait,) = waits
        assert (wait["blocked_pid"], wait["blocking_pid"]) == (other.thread_id(), holder.thread_id())
        assert wait["blocked_query"] == "delete from members where handle = ?"
        pids = {other.thread_id(), holder.thread_id()}
        # InnoDB refreshes these views only if no session has read them in the last 0.1 s.
        while not pids <= (locks := {row["pid"]: row for row in run_json("stats locks")["items"]}).keys():
            assert time.monotonic() < deadline, (pids, locks)
            time.sleep(0.2)
        blocked, blocking = locks[other.thread_id()], locks[holder.thread_id()]
        assert blocked["waits_for"] == [holder.thread_id()]
        assert any("members" in lock and lock.endswith(" (waiting)") for lock in blocked["locks"])
        assert any("members" in lock or lock.startswith("rows locked") for lock in blocking["locks"])
        assert blocked["query"] == "delete from members where handle = ?"
        assert blocking["transaction_seconds"] >= 1
        (result,) = run_json(f"maintain cancel {other.thread_id()} --yes")["sessions"]
        assert (result["pid"], result["ended"]) == (other.thread_id(), True)
        thread.join()
        assert results == [1317]
        holder.rollback()


def test_duplicate_index_and_low_setting_are_reported(larder, run_json):
    larder.rows("alter table members add unique members_mail_key1 (mail)")
    (index,) = run_json("stats indexes --only duplicate")["items"]
    assert index["columns"] == ["mail"]
    larder.rows(index["drop"])
    assert run_json("stats indexes --only duplicate")["items"] == []
    findings_by_setting = {
        finding["message"].split()[0]: finding
        for finding in run_json("doctor")["findings"]
        if finding["code"] == "setting-below"
    }
    assert findings_by_setting["max_connections"]["hint"].endswith(" max_connections = 500;")
    # Only MariaDB lists the settings that need a restart.
    assert (
        "restart" in findings_by_setting["innodb_page_size"]["message"]
    ) == servers.mysql_server().is_mariadb


def test_maintenance_continues_if_one_table_is_locked(larder, run_json, answer):
    with closing(servers.mysql_connection(larder.address)) as other, other.cursor() as cursor:
        cursor.execute("lock tables members write")
        response = answer(*["maintain", "analyze", "--timeout", "1"], status=12)
    failed = {task["table"] for task in response["data"]["tasks"] if task["error"]}
    # MySQL also locks the tables that a foreign key connects with the locked table.
    assert failed >= {"members"} if not servers.mysql_server().is_mariadb else failed == {"members"}
    assert "tallies" not in failed
    assert run_json("maintain optimize")["tasks"] == []
    assert run_json("maintain reindex --table order")["tasks"][0]["statement"] == "ALTER TABLE `order` FORCE"


@pytest.mark.mariadb
@pytest.mark.parametrize(("step", "reached"), [(3, 20), (-1, -7)])
def test_outdated_sequence_of_a_default_is_found(answer, step, reached):
    with servers.mysql_database() as url:
        words = ("--url", f"main={servers.text(url)}", "integrity", "check")
        with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:
            cursor.execute(f"create sequence `my ``numbers` start {step} increment {step} nocache")
            cursor.execute("create table item (id bigint default nextval(`my ``numbers`) primary key, n int)")
            cursor.execute("insert into item (n) values (1)")
            assert answer(*words)["data"]["findings"] == []
            cursor.execute(f"insert into item values ({reached}, 2)")
            (finding,) = answer(*words, status=4)["data"]["findings"]
            assert (finding["code"], finding["severity"]) == ("sequence-behind", "error")
            assert answer(*words, "--table", "item", status=4)["data"]["findings"] == [finding]
            cursor.execute(finding["hint"])
            assert answer(*words)["data"]["findings"] == []
            cursor.execute("insert into item (n) values (3)")
            cursor.execute("select id from item where n = 3")
            assert cursor.fetchall()[0][0] * step > reached * step


def test_overview_needs_no_right_to_read_the_state_of_replicas(larder, run_json, tmp_path):
    config, name = tmp_path / "dbctl.toml", larder.address.path
    with closing(servers.mysql_connection(larder.address)) as connection, connection.cursor() as cursor:
        cursor.execute("create user app@localhost")
        cursor.execute(f"grant all on `{name}`.* to app@localhost")
        config.write_text(config.read_text().replace("root@", "app@"))
        (overview,) = run_json("stats overview")["items"]
        cursor.execute("drop user app@localhost")
    assert overview["lag_seconds"] is None
    assert overview["tables"] > 0
