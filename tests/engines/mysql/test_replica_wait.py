"""A commit that waits for a semi-synchronous replica which does not answer."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import pytest
from msgspec import structs

from tests import servers
from tests.crash import forge

pytestmark = [pytest.mark.slow, pytest.mark.mariadb]
WAITING = "select 1 from information_schema.processlist where state like 'Waiting for semi-sync%'"
SEMI_SYNC = "set global rpl_semi_sync_master_enabled"


def test_interrupted_commit_is_no_rollback(tmp_path):
    with (
        servers.logging_mysql("--rpl-semi-sync-master-timeout=600000") as server,
        closing(servers.mysql_connection(servers.parse_url(server.url))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create database app")
        cursor.execute("create table app.notes (id integer primary key, text text)")
        cursor.execute("insert into app.notes values (1, 'old')")
        cursor.execute(f"{SEMI_SYNC} = 1")
        url = servers.text(structs.replace(servers.parse_url(server.url), path="app"))
        job = forge.start(
            tmp_path, "data", "set", "notes", "1", "text=new", "--url", f"main={url}", "-o", "json"
        )
        deadline = time.monotonic() + 30
        while not cursor.execute(WAITING):
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        status, result = forge.wait_for_result(job)
        assert (status, result["error"]["code"]) == (1, "commit-in-doubt")
        cursor.execute("select text from app.notes")
        assert cursor.fetchall() == (("new",),)
