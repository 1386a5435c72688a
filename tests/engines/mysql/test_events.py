"""Events of MySQL and MariaDB in restores, on a server that runs them."""

from __future__ import annotations

import subprocess
from contextlib import closing
from urllib.parse import parse_qs

import pytest

from tests import servers

STATES = "select event_name, status from information_schema.events where event_schema = %s order by 1"


@pytest.fixture(scope="module")
def server():
    return servers.private_mysql()


@pytest.fixture
def shop(server, tmp_path, monkeypatch):
    """An app with events, of which two run each second: one names the database of the app, the other one is in any."""
    with servers.mysql_database(server=server) as url:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DBCTL_STATE", "off")
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.shop]\nprofile = "plain"\ndatabases = "mysql://root@/{url.path}?{url.options}"\n[apps.shop.backup]\nrepository = "backups"\n'
        )
        with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:

            def run(sql, *arguments):
                cursor.execute(sql, arguments)
                return list(cursor.fetchall())

            run("set global event_scheduler = off")
            run("create table log (place varchar(99))")
            run("create table goods (id int primary key)")
            run("insert into goods values (1)")
            run(
                f"create event `a ``b` on schedule every 1 second do insert into `{url.path}`.log values (database())"
            )
            run("create event own on schedule every 1 second do delete from goods")
            run(
                "create event later on schedule every '1:30' hour_minute starts '2030-01-01 00:00:00'"
                " on completion preserve disable comment 'it''s' do\nbegin\n select 1;\n end"
            )
            yield url, run


def back_up(shop, answer):
    """Back up the app, drop its events, and begin to run events."""
    url, run = shop
    answer("backup", "create")
    states = run(STATES, url.path)
    assert states == [("a `b", "ENABLED"), ("later", "DISABLED"), ("own", "ENABLED")]
    for name in ("a ``b", "own"):
        run(f"drop event `{name}`")
    run("set global event_scheduler = on")
    return states


def test_events_do_not_run_while_a_backup_is_verified(shop, answer):
    _url, run = shop
    back_up(shop, answer)
    for _ in range(5):  # the server runs events at the beginning of each second
        answer("backup", "drill")
    answer("backup", "verify", "--deep")
    run("do sleep(2)")
    assert run("select * from log") == []


def test_restore_enables_the_events_that_the_backup_enables(shop, answer):
    url, run = shop
    states = back_up(shop, answer)
    answer("restore", "apply", "latest", "--yes")
    assert run(STATES, url.path) == states
    run("do sleep(2)")
    assert {place for (place,) in run("select place from log")} == {url.path}
    assert run("select * from goods") == []
    answer("restore", "undo", "--yes")
    assert run(STATES, url.path) == states[1:2]


@pytest.mark.needs_extension("adopt")
def test_events_of_a_foreign_dump_are_enabled_after_the_restore(shop, answer, tmp_path):
    url, run = shop
    states = back_up(shop, answer)
    run("set global event_scheduler = off")
    run("create event own on schedule every 1 second do delete from goods")
    words = [
        "mysqldump",
        f"--socket={parse_qs(url.options)['unix_socket'][0]}",
        "--user=root",
        "--events",
        url.path,
    ]
    dump = subprocess.run(words, capture_output=True, check=True).stdout
    (tmp_path / "other.sql").write_bytes(dump)
    run("drop event own")
    run("set global event_scheduler = on")
    answer("restore", "apply", "--file", "other.sql", "--yes")
    assert run(STATES, url.path) == states[1:]


def test_a_copy_reports_code_that_names_the_original(shop, answer):
    url, run = shop
    run(f"create procedure add_goods() insert into {url.path}.goods values (7)")
    run("create procedure list_goods() select goods.id from goods")
    answer("backup", "create")
    copy = f"{url.path}_copy"
    try:
        result = answer("restore", "apply", "latest", "--to", f"mysql://root@/{copy}?{url.options}", "--yes")
        remark, options = result["warnings"]
        assert options.endswith(": commands on the copy need the options of --to: unix_socket")
        names, _, reason = remark.partition(": the statements name the database ")
        assert names.endswith(": event a `b, procedure add_goods")
        assert reason.startswith(f"{url.path},")
    finally:
        run(f"drop database if exists {copy}")
