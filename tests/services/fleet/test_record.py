"""Records of runs: what an interrupted run left, a crash in the middle of a line, a full disk, two runs."""

from __future__ import annotations

import pytest

from dbctl.errors import BusyError, RunMissingError
from dbctl.services.fleet import Outcome, RunRecord


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path / "state/runs"


def locate(fleet="shop", command="backup create", arguments=()):
    return RunRecord.locate(fleet, command, arguments)


def write(*names, resume=False):
    record = locate()
    with record.open(resume=resume, timeout=0) as completed:
        for name in names:
            record.add(Outcome(app=name, state="done", exit_code=0))
    return completed


def read():
    with locate().open(resume=True, timeout=0) as completed:
        return completed


def test_completed_instances_are_read_again():
    assert write("shop/a", "shop/b") == frozenset()
    assert write("shop/c", resume=True) == {"shop/a", "shop/b"}
    assert read() == {"shop/a", "shop/b", "shop/c"}


def test_failed_and_skipped_instances_are_not_completed():
    record = locate()
    with record.open(resume=False, timeout=0):
        record.add(Outcome(app="shop/a", state="failed", exit_code=1))
        record.add(Outcome(app="shop/b", state="skipped", exit_code=5))
    assert read() == frozenset()


def test_new_run_replaces_the_record():
    write("shop/a")
    write("shop/b")
    assert read() == {"shop/b"}


def test_other_arguments_have_another_record():
    write("shop/a")
    for record in (locate(arguments=["x"]), locate(fleet="shop/a*"), locate(command="backup verify")):
        with pytest.raises(RunMissingError), record.open(resume=True, timeout=0):
            pass


@pytest.mark.parametrize("cut", [b'{"app": "sh', b"\x00\xff\n", b"[1]\n", b'{"app": 7}\n'])
def test_damaged_lines_are_ignored(state, cut):
    write("shop/a")
    path = locate().path
    path.write_bytes(path.read_bytes() + cut)
    assert write("shop/b", resume=True) == {"shop/a"}
    assert read() == {"shop/a", "shop/b"}


def test_second_run_waits_and_is_refused():
    with locate().open(resume=False, timeout=0):
        with pytest.raises(BusyError), locate().open(resume=False, timeout=0):
            pass
        with pytest.raises(BusyError), locate().open(resume=True, timeout=0):
            pass


def test_folder_that_cannot_be_written_does_not_prevent_the_run(state):
    state.parent.mkdir(parents=True)
    state.write_text("a file")
    record = locate()
    with record.open(resume=False, timeout=0) as completed:
        record.add(Outcome(app="shop/a", state="done", exit_code=0))
    assert completed == frozenset()
    assert record.failure


def test_only_the_user_may_read_records(state):
    write("shop/a")
    assert {path.stat().st_mode & 0o077 for path in [state, *state.iterdir()]} == {0}
