"""Commands through routes that are killed, or whose ssh is, at random moments: old or new state, and nothing remains."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer, wait_for_result
from tests.crash.test_backup_server import wait_for_descendants
from tests.extensions.reach.processes import find_ssh, wait_until, wait_until_empty
from tests.services import larder_app, promptvault_app

pytestmark = pytest.mark.slow
KILLS = choose_count(3, 30)
CHANGE = "data", "set", "much", "1", "text=new", "--yes"


@pytest.fixture(params=["postgresql", "mysql"])
def pantry(request, tmp_path, ssh_hosts):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        app.run("create table much (id int primary key, text varchar(200))")
        rows = ", ".join(f"({number}, '{number:0200}')" for number in range(20_000))
        app.run(f"insert into much values {rows}")
        file = app.folder / "dbctl.toml"
        file.write_text(file.read_text().replace("[apps.larder]\n", '[apps.larder]\nvia = "ssh:bastion"\n'))
        assert "via" in file.read_text()
        yield app


@pytest.fixture
def start(pantry, ssh_hosts, runtime):
    """Start a command that uses the route, and find what remains of it."""

    def start_command(*arguments):
        environment = {"TMPDIR": str(pantry.folder), "XDG_RUNTIME_DIR": str(runtime), "PATH": ssh_hosts.path}
        return forge.start(pantry.folder, *arguments, "-o", "json", environment=environment)

    return start_command


def kill_ssh(runtime):
    for process in find_ssh(runtime):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def require_nothing_left(runtime):
    wait_until_empty(runtime)
    wait_until(lambda: not find_ssh(runtime))


def run_killed(start, pantry, runtime, timer, victim, *words):
    """Start a command, kill it or its ssh at a random moment, and wait until nothing of it remains."""
    job = start(*words)
    if victim == "dbctl":
        timer.send_signal(job)
    else:
        timer.send_signal(job, 0)
        kill_ssh(runtime)
    wait_for_result(job)
    wait_for_descendants(pantry)
    require_nothing_left(runtime)


def run_to_end(start, *words):
    status, result = wait_for_result(start(*words))
    assert status == 0, result


@pytest.fixture(params=["dbctl", "ssh"])
def victim(request):
    return request.param


def test_killed_backup_leaves_complete_backups(start, pantry, runtime, victim):
    run_to_end(start, "backup", "create")
    content, timer = pantry.content(), KillTimer(create_rng(f"backup {victim}"), 1.5)
    for _ in range(KILLS):
        run_killed(start, pantry, runtime, timer, victim, "backup", "create")
        findings = promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, deep=False))
        assert set(findings) <= {"backup-incomplete"}
    assert pantry.content() == content
    run_to_end(start, "backup", "create")


def test_killed_restore_leaves_old_or_new_rows(start, pantry, runtime, victim):
    new = pantry.content()
    run_to_end(start, "backup", "create")
    pantry.change_data()
    old, timer = pantry.content(), KillTimer(create_rng(f"restore {victim}"), 2.5)
    for _ in range(KILLS):
        run_killed(start, pantry, runtime, timer, victim, "restore", "apply", "latest", "--yes")
        now = pantry.content()
        assert now in (old, new)
        if now == new:
            run_to_end(start, "restore", "undo", "--yes")
    run_to_end(start, "restore", "apply", "latest", "--yes")
    assert pantry.content() == new


def test_killed_change_is_made_with_its_record_or_not_at_all(start, pantry, runtime, victim):
    def read():
        rows = pantry.rows("select text from much where id = 1")
        return rows, len([text for text in pantry.content()["history"] if "data.set" in text])

    timer = KillTimer(create_rng(f"change {victim}"), 1.0)
    for _ in range(2 * KILLS):
        pantry.run("update much set text = 'old' where id = 1")
        _, count = old = read()
        run_killed(start, pantry, runtime, timer, victim, *CHANGE)
        assert read() in (old, ([("new",)], count + 1))
    run_to_end(start, *CHANGE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_change_and_its_route(start, pantry, runtime, number):
    old = pantry.content()
    timer = KillTimer(create_rng(f"{number} through a route"), 0.5)
    for _ in range(KILLS):
        job = start("backup", "create")
        timer.send_signal(job, number)
        status, result = wait_for_result(job)
        assert status in (0, 128 + number), result
        require_nothing_left(runtime)
    assert pantry.content() == old
    assert not list(pantry.folder.glob("dbctl-secret-*"))
