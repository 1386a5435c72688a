"""``dbctl wait`` waits for what time alone can end, and ends at once for what it cannot."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.model import Secret
from dbctl.url import parse_url
from tests import servers


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@contextmanager
def later(action, seconds=0.6):
    """Run ``action`` in a thread after some seconds; what it raises fails the test."""

    def run():
        time.sleep(seconds)
        action()

    with ThreadPoolExecutor() as threads:
        running = threads.submit(run)
        yield
        running.result()


def create_file(path="app.db"):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table things (id integer primary key)")


def start_postgresql(port):
    url = servers.listening_postgresql(port=port)
    with closing(servers.connection(url)) as connection:
        time.sleep(0.6)  # an image creates its database after the server has started
        connection.execute("create database shop")


def start_mysql(port):
    url = servers.listening_mysql(port)
    with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:
        time.sleep(0.6)
        cursor.execute("create database shop")


@pytest.mark.parametrize(
    ("engine", "user", "start"),
    [("postgresql", "postgres", start_postgresql), ("mysql", "root", start_mysql)],
)
def test_server_that_starts_and_then_creates_the_database_is_awaited(answer, engine, user, start):
    port = servers.free_port()
    url = f"main={engine}://{user}@127.0.0.1:{port}/shop"
    with later(lambda: start(port)):
        (row,) = answer("wait", "--url", url)["data"]["items"]
    assert (row["app"], row["database"], row["state"], row["message"]) == ("app", "main", "ok", None)
    assert row["waited"] > 1.2
    answer("stats", "tables", "--url", url)


def test_file_that_is_created_in_a_missing_folder_is_awaited(answer, tmp_path):
    def create():
        (tmp_path / "data").mkdir()
        time.sleep(0.4)
        create_file("data/app.db")

    with later(create):
        (row,) = answer("wait", "--url", "main=data/app.db")["data"]["items"]
    assert row["state"] == "ok"
    assert row["waited"] > 1


def test_database_that_never_answers_has_its_reason_after_the_time_limit(answer):
    port = servers.free_port()
    result = answer(
        "wait", "--url", f"main=postgresql://postgres@127.0.0.1:{port}/shop", "--timeout", "1", status=10
    )
    (row,) = result["data"]["items"]
    assert row["state"] == "unreachable"
    assert 1 <= row["waited"] < 5
    assert "refused" in row["message"]
    assert result["warnings"] == [row["message"]]


def test_zero_seconds_are_one_attempt(answer):
    (row,) = answer("wait", "--url", "main=app.db", "--timeout", "0", status=10)["data"]["items"]
    assert row["state"] == "database-missing"
    assert row["waited"] < 1


def test_unknown_host_name_is_awaited(answer):
    url = "main=mysql://root@no-such-host.invalid/shop"
    (row,) = answer("wait", "--url", url, "--timeout", "1", status=10)["data"]["items"]
    assert row["waited"] >= 1


@pytest.mark.slow
def test_refused_login_ends_the_wait_at_once(answer):
    server = parse_url(servers.private_postgresql(password="correct password"))
    with closing(servers.mysql_connection(servers.mysql())) as own, own.cursor() as cursor:
        cursor.execute("create user if not exists t_wait identified by 'correct password'")
        mysql = structs.replace(servers.mysql(), user="t_wait", path="mysql")
        try:
            for url in (server, structs.replace(server, user="nobody-here"), mysql):
                wrong = structs.replace(url, password=Secret("wrong password"))
                result = answer("wait", "--url", f"main={servers.text(wrong)}", status=10)
                (row,) = result["data"]["items"]
                assert row["state"] == "unreachable"
                assert row["waited"] < 5
        finally:
            cursor.execute("drop user t_wait")


def test_role_that_the_server_lacks_ends_the_wait_at_once(answer):
    url = structs.replace(servers.postgresql(), user="nobody-here")
    (row,) = answer("wait", "--url", f"main={servers.text(url)}", status=10)["data"]["items"]
    assert row["waited"] < 5


def test_file_that_is_no_database_ends_the_wait_at_once(answer, tmp_path):
    (tmp_path / "app.db").write_text("no database" * 100)
    (row,) = answer("wait", "--url", "main=app.db", status=4)["data"]["items"]
    assert row["state"] == "not-a-database"
    assert row["waited"] < 5


def test_locked_database_answers(answer):
    create_file()
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        connection.execute("insert into things default values")
        (row,) = answer("wait", "--url", "main=app.db", "--timeout", "0.2")["data"]["items"]
    assert row["state"] == "ok"


@pytest.fixture
def configured(tmp_path):
    create_file()
    (tmp_path / "dbctl.toml").write_text(
        "[apps.shop]\nprofile = 'plain'\ndatabases = 'app.db'\n[apps.blog]\nprofile = 'plain'\ndatabases = 'blog.db'\n"
    )


@pytest.mark.usefixtures("configured")
def test_all_apps_are_awaited_and_one_that_answers_is_partial(answer):
    with later(lambda: create_file("blog.db")):
        result = answer("wait", "--all-apps")
    assert [(row["app"], row["state"]) for row in result["data"]["items"]] == [("shop", "ok"), ("blog", "ok")]
    assert result["data"]["items"][0]["waited"] < result["data"]["items"][1]["waited"]
    Path("blog.db").unlink()
    result = answer("wait", "--all-apps", "--timeout", "0", status=12)
    assert [row["state"] for row in result["data"]["items"]] == ["ok", "database-missing"]
    answer("wait", "--app", "shop")
    assert answer("wait", "--app", "shop", "--db", "other", status=5)["error"]["code"]


def test_server_that_does_not_start_delays_no_other_database(answer, tmp_path):
    create_file()
    (tmp_path / "dbctl.toml").write_text(
        f"[apps.shop]\nprofile = 'plain'\ndatabases = 'postgresql://postgres@127.0.0.1:{servers.free_port()}/shop'\n"
        "[apps.blog]\nprofile = 'plain'\ndatabases = 'app.db'\n"
    )
    result = answer("wait", "--all-apps", "--timeout", "5.5", status=12)
    shop, blog = (row["waited"] for row in result["data"]["items"])
    assert blog < 5 < shop


def test_time_limit_is_one_for_all_databases_of_silent_servers(answer, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        apps = (
            f"[apps.{name}]\nprofile = 'plain'\ndatabases = 'postgresql://a@127.0.0.1:{port}/{name}'\n"
            for name in "xyz"
        )
        (tmp_path / "dbctl.toml").write_text("".join(apps))
        rows = answer("wait", "--all-apps", "--timeout", "1", status=10)["data"]["items"]
    assert [row["state"] for row in rows] == ["unreachable"] * 3
    assert ["not tried" in row["message"] for row in rows] == [False, True, True]
    assert rows[2]["waited"] < 10  # an attempt has 5 seconds


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_wait(tmp_path, number):
    command = [
        sys.executable,
        "-m",
        "dbctl",
        "wait",
        "--url",
        "main=app.db",
        "-o",
        "json",
        "--progress",
        "json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"waiting for app/main" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []
