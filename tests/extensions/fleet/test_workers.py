"""Worker processes: order, deaths, signals."""

from __future__ import annotations

import os
import signal
import time

import pytest

from dbctl import signals
from dbctl.extensions.fleet.run import WorkerPool
from dbctl.services.fleet.instances import Outcome
from dbctl.signals import Interrupted


def create_outcome(task: str) -> Outcome:
    return Outcome(app=task, state="done", exit_code=0, data=os.getpid())


def run(perform, tasks, *, jobs):
    outcomes = []
    with WorkerPool(perform, jobs=jobs, name=str) as pool:
        pool.run(iter(tasks), outcomes.append)
    return outcomes


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_each_task_is_performed_once_in_at_most_so_many_other_processes(jobs):
    names = [str(number) for number in range(20)]
    outcomes = run(create_outcome, names, jobs=jobs)
    assert sorted(outcome.app for outcome in outcomes) == sorted(names)
    processes = {outcome.data for outcome in outcomes}
    assert len(processes) <= jobs
    assert os.getpid() not in processes


def test_one_worker_keeps_the_order():
    names = [str(number) for number in range(20)]
    assert [outcome.app for outcome in run(create_outcome, names, jobs=1)] == names


def test_dead_worker_fails_its_task_only():
    def die_at_3(task):
        if task == "3":
            os.kill(os.getpid(), signal.SIGKILL)
        return create_outcome(task)

    outcomes = {outcome.app: outcome for outcome in run(die_at_3, map(str, range(8)), jobs=2)}
    assert outcomes["3"].error.code == "worker-ended"
    assert [name for name, outcome in outcomes.items() if outcome.state == "failed"] == ["3"]
    assert len(outcomes) == 8


def test_no_worker_remains():
    pids = {outcome.data for outcome in run(create_outcome, map(str, range(4)), jobs=2)}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


@pytest.fixture
def handled_sigterm(monkeypatch):
    """Handle SIGTERM as a process of dbctl does."""
    monkeypatch.setattr(signals, "_received", [])
    previous = signal.getsignal(signal.SIGTERM)
    signals.install_handlers()
    yield
    for number in signals.TERMINATION_SIGNALS:
        signal.signal(number, previous if number == signal.SIGTERM else signal.default_int_handler)


@pytest.mark.usefixtures("handled_sigterm")
def test_signal_rolls_back_running_tasks_and_reports_committed_ones(tmp_path):
    """One task is interrupted; another has committed, and ignores the signal until its outcome is sent."""
    rolled_back = tmp_path / "rolled back"

    def perform(task):
        (tmp_path / task).touch()
        if task == "committed":
            signals.ignore_signals_until_exit()
        try:
            wait_for(rolled_back)
        except Interrupted:
            rolled_back.touch()
            raise
        return create_outcome(task)

    def tasks():
        for task in ("committed", "running"):
            yield task
            wait_for(tmp_path / task)
        os.kill(os.getpid(), signal.SIGTERM)
        yield "never"

    outcomes = []
    with pytest.raises(Interrupted), WorkerPool(perform, jobs=3, name=str) as pool:
        pool.run(tasks(), outcomes.append)
    assert [outcome.app for outcome in outcomes] == ["committed"]
    assert not (tmp_path / "never").exists()
