"""What only a server needs, by its commands, on MySQL or MariaDB."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing

import pymysql
import pytest
from jsonschema import Draft202012Validator

from dbctl.cli import _reference
from tests import servers
from tests.profiles.test_larder import PROFILE, MySQLShelf
from tests.services.doctor.test_server import commands
from tests.services.larder_app import fill_mysql

SCHEMAS = json.loads(_reference.SCHEMAS.read_text(encoding="utf-8"))
#: What such a server has no use for.
REFUSED = ("maintain vacuum", "maintain checkpoint")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = servers.private_mysql("--performance-schema=ON")
    with servers.mysql_database(server=server) as url, closing(MySQLShelf(url)) as made:
        with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
            fill_mysql(cursor)
        recommended = (
            '[databases.pantry.recommended.mysql]\nmax_connections = 500\ninnodb_page_size = "64K"\n'
        )
        profile = PROFILE.read_text(encoding="utf-8").replace("\n[users]", f"\n{recommended}\n[users]", 1)
        (tmp_path / "larder.toml").write_text(profile, encoding="utf-8")
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.larder]\nprofile = "larder.toml"\n[apps.larder.databases]\npantry = "{made.url}"\n',
            encoding="utf-8",
        )
        made.address = url
        yield made


@pytest.fixture
def ask(answer):
    def run(line, status=0):
        told = answer(*line.split(), status=status)
        if "--columns" not in line:
            schema = {**SCHEMAS["answers"][told["schema"]], "$defs": SCHEMAS["$defs"]}
            Draft202012Validator(schema).validate(told)
        return told["error"] or told["data"]

    return run


def test_every_question_of_the_page_has_the_command_that_it_names(shelf, ask):
    for line in dict.fromkeys(commands()):
        told = ask(line, status=2 if line.startswith(REFUSED) else 0)
        assert "code" not in told or told["code"] == "not-supported"


def test_who_waits_is_told_and_ended(shelf, ask):
    with closing(servers.mysql_connection(shelf.address)) as other:
        holder = shelf._connection
        holder.begin()
        shelf.rows("update members set mail = 'new@larder.example' where handle = 'pip'")
        ended = []

        def run():
            try:
                with other.cursor() as cursor:
                    cursor.execute("delete from members where handle = 'pip'")
                ended.append(0)
            except pymysql.Error as error:
                ended.append(error.args[0])

        thread = threading.Thread(target=run)
        thread.start()
        until = time.monotonic() + 20
        while not (waits := ask("stats locks --waiting")["items"]) or waits[0]["waiting_seconds"] < 1:
            assert time.monotonic() < until
            time.sleep(0.1)
        (found,) = waits
        assert (found["blocked_pid"], found["blocking_pid"]) == (other.thread_id(), holder.thread_id())
        assert found["blocked_query"] == "delete from members where handle = ?"
        held = {one["pid"]: one for one in ask("stats locks")["items"]}
        blocked, blocking = held[other.thread_id()], held[holder.thread_id()]
        assert blocked["waits_for"] == [holder.thread_id()]
        assert any("members" in lock and lock.endswith(" (waiting)") for lock in blocked["locks"])
        assert any("members" in lock or lock.startswith("rows locked") for lock in blocking["locks"])
        assert blocked["query"] == "delete from members where handle = ?"
        assert blocking["transaction_seconds"] >= 1
        (done,) = ask(f"maintain cancel {other.thread_id()} --yes")["sessions"]
        assert (done["pid"], done["ended"]) == (other.thread_id(), True)
        thread.join()
        assert ended == [1317]
        holder.rollback()


def test_an_index_that_nobody_needs_and_a_setting_that_is_too_low_are_told(shelf, ask):
    shelf.rows("alter table members add unique members_mail_key1 (mail)")
    (found,) = ask("stats indexes --only duplicate")["items"]
    assert found["columns"] == ["mail"]
    shelf.rows(found["drop"])
    assert ask("stats indexes --only duplicate")["items"] == []
    told = {
        one["message"].split()[0]: one for one in ask("doctor")["findings"] if one["code"] == "setting-below"
    }
    assert told["max_connections"]["hint"].endswith(" max_connections = 500;")
    # Only MariaDB lists which settings need a restart.
    assert ("restart" in told["innodb_page_size"]["message"]) == servers.mysql_server().is_mariadb


def test_looking_after_tables_goes_on_when_one_is_held(shelf, ask, answer):
    with closing(servers.mysql_connection(shelf.address)) as other, other.cursor() as cursor:
        cursor.execute("lock tables members write")
        told = answer(*["maintain", "analyze", "--timeout", "1"], status=12)
    failed = {task["table"] for task in told["data"]["tasks"] if task["error"]}
    # MySQL locks the tables too that a foreign key connects with a locked table.
    assert failed >= {"members"} if not servers.mysql_server().is_mariadb else failed == {"members"}
    assert "tallies" not in failed
    assert ask("maintain optimize")["tasks"] == []
    assert ask("maintain reindex --table order")["tasks"][0]["statement"] == "ALTER TABLE `order` FORCE"
