"""A recovery that is interrupted or killed leaves no server, no folder and no backup."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import servers
from tests.extensions.recover.primary import Primary, find_leftovers, write_time
from tests.in_process import CLEAN_ENVIRONMENT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def killed():
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.sell(2)
        primary.back_up("first")
        time.sleep(1)  # a base states the second of its start
        primary.sell(20)
        primary.kill()
        yield primary


@pytest.fixture
def begin(killed, tmp_path, monkeypatch, temp_folder):
    """Return a function that starts a recovery, waits until a process or a folder of it exists, and returns it."""
    monkeypatch.chdir(tmp_path)
    killed.configure(tmp_path)
    environment = CLEAN_ENVIRONMENT | {"TMPDIR": str(temp_folder)}

    def start(sign: str) -> subprocess.Popen[bytes]:
        words = ["backup", "recover", "--at", write_time(killed.sales[-1].inserted)]
        process = subprocess.Popen(
            [sys.executable, "-m", "dbctl", *words], env=environment, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while not any(sign in text for text in find_leftovers() if " -m dbctl " not in text):
            assert time.monotonic() < deadline, sign
            assert process.poll() is None, sign
            time.sleep(0.002)
        return process

    return start


def wait_for_end(is_expected_to_end: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_expected_to_end, find_leftovers())):
        assert time.monotonic() < deadline, find_leftovers()
        time.sleep(0.05)


#: What shows that a recovery copies files, runs a server, and dumps; SIGTERM and SIGINT have the same handler.
SIGNS = {"copy": "dbctl-recover-", "server": "bin/postgres", "dump": "dbctl-secret-"}
KILLS = [
    *((signal.SIGTERM, step) for step in SIGNS),
    (signal.SIGINT, "server"),
    *((signal.SIGKILL, step) for step in SIGNS),
]


@pytest.mark.parametrize(("number", "step"), KILLS, ids=[f"{step}-{number.name}" for number, step in KILLS])
def test_interrupted_recovery_leaves_nothing(begin, answer, killed, number, step):
    process = begin(SIGNS[step])
    process.send_signal(number)
    assert process.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    wait_for_end(lambda text: " -D " in text or "/bin/sh" in text)
    assert not [*Path("backups").glob("*/*/manifest.json")]
    if number != signal.SIGKILL:
        assert find_leftovers() == []
        return
    backup = answer("backup", "recover", "--at", write_time(killed.sales[-1].inserted))[
        "data"
    ]  # deletes what remained
    assert backup["members"][0]["rows"] == {"sales": 21}
    wait_for_end(bool)  # the process that watches a server may have begun after dbctl was killed
