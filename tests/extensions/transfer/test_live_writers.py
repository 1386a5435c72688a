"""Writers of the source during and after a switch: what is acknowledged is copied, and everything later is refused."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.url import parse_url
from tests import servers

ENGINES = ["sqlite", "postgresql", "mysql"]
WRITERS = 3
START_SECONDS = 60
#: A program of an app: it inserts rows of two tables in one transaction, again and again, and prints each acknowledged key.
#: After an error it connects again.
WRITER = """
import sys, time, itertools
engine, place, name = sys.argv[1:]
def connect():
    if engine == "sqlite":
        import sqlite3
        return sqlite3.connect(place, timeout=10, isolation_level=None)
    if engine == "postgresql":
        import psycopg
        address, schema = place.split("|")
        options = f"-c session_replication_role=replica -c search_path={schema}"
        return psycopg.connect(address, autocommit=True, options=options)
    import pymysql
    host, port, user, password, database = place.split("|")
    return pymysql.connect(host=host, port=int(port), user=user, password=password, database=database, autocommit=True)
for number in itertools.count():
    key = f"{name}-{number}"
    connection = None
    try:
        connection = connect()
        cursor = connection.cursor()
        cursor.execute("begin")
        cursor.execute(f"insert into note (content) values ('{key}')")
        cursor.execute(f"update counter set reached = reached + 1")
        cursor.execute("commit")
    except Exception as error:
        print("refused", str(error).replace(chr(10), " "), flush=True)
        time.sleep(0.02)
    else:
        print("written", key, flush=True)
    finally:
        if connection is not None:
            connection.close()
"""
SCHEMA = (
    "create table note (id integer primary key{}, content varchar(100) not null unique)",
    "create table counter (id integer primary key, reached integer not null)",
    "insert into counter values (1, 0)",
)
NUMBERED = {"sqlite": "", "postgresql": " generated always as identity", "mysql": " auto_increment"}


def connect(url_text):
    """Open a database with the driver of its engine."""
    if "://" not in url_text or url_text.startswith("sqlite"):
        return sqlite3.connect(url_text.removeprefix("sqlite:///"))
    url = parse_url(url_text)
    return servers.mysql_connection(url) if url.engine == "mysql" else servers.connection(url)


def run_sql(url_text, *statements):
    """Run statements; return the rows of the last one."""
    with closing(connect(url_text)) as connection:
        cursor = connection.cursor()
        for sql in statements:
            cursor.execute(sql)
        rows = list(cursor.fetchall()) if cursor.description else []
        connection.commit()
    return [tuple(row) for row in rows]


def place_of(url_text):
    """Return the address in the form that the driver of the writer needs."""
    if not url_text.startswith(("postgresql", "mysql")):
        return url_text
    url = parse_url(url_text)
    if url.engine == "postgresql":
        return f"{servers.text(url, schema=False)}|{servers.schema_of(url)}"
    password = url.password.reveal() if url.password else ""
    return "|".join([url.host, str(url.port or 3306), url.user, password, url.path])


@pytest.fixture
def live_source(databases, tmp_path):
    """Return a function that creates a source of an engine, as the text of its address."""

    def create(engine):
        if engine == "sqlite":
            text = str(tmp_path / "live.db")
            run_sql(text, "pragma journal_mode = wal")
        else:
            text = databases(engine, tmp_path)
        run_sql(text, *(sql.format(NUMBERED[engine]) for sql in SCHEMA))
        return text

    return create


@pytest.fixture
def writers(tmp_path):
    """Return a function that starts writers, and one that stops them and returns what they printed."""
    started = []

    def start(engine, url_text):
        """Start the writers, and wait until one has written; a busy machine needs seconds for that."""
        for number in range(WRITERS):
            output = (tmp_path / f"writer{number}.txt").open("w+")
            words = [sys.executable, "-c", WRITER, engine, place_of(url_text), f"w{number}"]
            started.append((subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT), output))
        end = time.monotonic() + START_SECONDS
        while not any("written " in Path(output.name).read_text() for _, output in started):
            assert time.monotonic() < end
            time.sleep(0.1)

    def stop():
        lines = []
        for process, output in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
            output.seek(0)
            lines += output.read().splitlines()
            output.close()
        started.clear()
        return (
            {line.removeprefix("written ") for line in lines if line.startswith("written ")},
            [line for line in lines if line.startswith("refused ")],
        )

    yield start, stop
    for process, _ in started:
        process.kill()
        process.wait()


def read_notes(url_text):
    return {content for (content,) in run_sql(url_text, "select content from note")}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_no_acknowledged_row_is_missing_after_a_switch(answer, live_source, writers, tmp_path, engine):
    source, destination = live_source(engine), str(tmp_path / "new.db")
    start, stop = writers
    start(engine, source)
    time.sleep(1)
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    result = answer(*words, "switch", "--to", destination, "--yes", "--timeout", "20")
    time.sleep(0.7)
    written, refused = stop()
    assert written
    copied = read_notes(destination)
    assert written <= copied
    assert copied == read_notes(source)  # nothing was written to the old database afterwards
    assert run_sql(destination, "select reached from counter") == [(len(copied),)]
    assert any("--unlock" in line for line in refused)
    assert set(result["data"]["locked"]) == {"counter", "note"}
    assert any("--unlock" in line for line in result["warnings"])


@pytest.mark.parametrize("engine", ENGINES)
def test_unlock_returns_to_the_source(answer, live_source, tmp_path, engine):
    source, destination = live_source(engine), str(tmp_path / "new.db")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    answer(*words, "switch", "--to", destination, "--yes")
    refusal = answer("--url", f"main={source}", "data", "add", "counter", "id=2", "reached=0", status=6)
    assert "--unlock" in refusal["error"]["message"]
    answer(*words, "verify", "--to", destination)  # the locks are no difference
    planned = answer(*words, "switch", "--unlock", "--dry-run")["data"]["plan"]
    assert planned["steps"]
    assert answer(*words, "switch", "--unlock", "--yes")["data"]["tables"] == ["counter", "note"]
    run_sql(source, "insert into counter values (3, 0)", "delete from counter where id = 3")
    assert answer(*words, "switch", "--unlock", "--yes")["data"]["tables"] == []
    kinds = {
        "sqlite": "select name from sqlite_master where type = 'trigger'",
        "postgresql": "select proname from pg_proc where pronamespace = current_schema()::regnamespace",
        "mysql": "select trigger_name from information_schema.triggers where trigger_schema = database()",
    }
    assert run_sql(source, kinds[engine]) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_failed_switch_unlocks_the_source(answer, live_source, monkeypatch, tmp_path, engine):
    source, destination = live_source(engine), str(tmp_path / "new.db")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)

    def fail(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("dbctl.extensions.transfer.switch.drop_state", fail)
    answer(*words, "switch", "--to", destination, "--yes", status=1)
    run_sql(source, "insert into counter values (3, 0)")
    monkeypatch.undo()
    answer(*words, "switch", "--to", destination, "--yes")
    assert run_sql(destination, "select count(*) from counter") == [(2,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_switch_continues_after_a_kill_with_the_lock(answer, live_source, monkeypatch, tmp_path, engine):
    """Without the code that unlocks, the state is that of a killed process."""
    source, destination = live_source(engine), str(tmp_path / "new.db")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    run_sql(source, "insert into counter values (3, 0)")

    def fail(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("dbctl.extensions.transfer.switch.finish_copy", fail)
    monkeypatch.setattr("dbctl.extensions.transfer.switch.SwitchTransfer._unlock", lambda *_arguments: None)
    answer(*words, "switch", "--to", destination, "--yes", status=1)
    monkeypatch.undo()
    with pytest.raises(Exception, match="--unlock"):
        run_sql(source, "insert into counter values (4, 0)")
    answer(*words, "switch", "--to", destination, "--yes")
    assert run_sql(destination, "select count(*) from counter") == [(2,)]


@pytest.mark.parametrize(
    ("engine", "other"),
    [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite"), ("mysql", "sqlite")],
)
def test_switch_refuses_a_changed_schema_with_the_difference(
    answer, live_source, databases, tmp_path, engine, other
):
    source = live_source(engine)
    destination = str(tmp_path / "new.db") if other == "sqlite" else databases(other, tmp_path)
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    run_sql(source, "create unique index counter_reached on counter (reached)")
    error = answer(*words, "switch", "--to", destination, "--yes", status=4)["error"]
    assert error["code"] == "transfer-schema-changed"
    assert "counter_reached" in error["message"]
    run_sql(source, "insert into counter values (9, 9)")  # it is not locked
