"""The runner of steps: their order, the undo after an error, and when a signal interrupts them."""

from __future__ import annotations

import os
import signal

import pytest

from dbctl import signals
from dbctl.services.restore.replacement import run_steps


class RecordingStep:
    """A step that records its calls, and fails or sends a signal on demand."""

    def __init__(self, calls, name, *, error=None, undo_error=None, stop=False):
        self.calls, self.name, self.stop = calls, name, stop
        self.error, self.undo_error = error, undo_error
        self.reason = None

    def run(self):
        self.calls.append(f"run {self.name}")
        if self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.error:
            raise self.error

    def undo(self, error):
        self.calls.append(f"undo {self.name}")
        self.reason = error
        signals.raise_if_interrupted()
        if self.undo_error:
            raise self.undo_error


@pytest.fixture
def calls():
    return []


@pytest.fixture
def _handlers():
    """Install the handlers of signals during the test."""
    handlers = {number: signal.getsignal(number) for number in signals.TERMINATION_SIGNALS}
    signals.install_handlers()
    yield
    signals._received.clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def create_steps(calls, names, **options):
    """Return three lists of steps, of which the one that ``options`` name in ``at`` has the other options."""
    at = options.pop("at")
    return [
        [RecordingStep(calls, name, **(options if name == at else {})) for name in group] for group in names
    ]


GROUPS = [["lock", "backup"], ["load", "swap"], ["drop", "release"]]


def test_steps_run_in_order_and_are_not_undone(calls):
    run_steps(*create_steps(calls, GROUPS, at=""))
    assert calls == [f"run {name}" for group in GROUPS for name in group]


@pytest.mark.parametrize(
    ("failing", "undone"),
    [("lock", ["lock"]), ("load", ["load", "backup", "lock"]), ("swap", ["swap", "load", "backup", "lock"])],
)
def test_started_steps_are_undone_in_reverse_order(calls, failing, undone):
    error = LookupError()
    groups = create_steps(calls, GROUPS, at=failing, error=error)
    with pytest.raises(LookupError) as failed:
        run_steps(*groups)
    assert failed.value is error
    assert [call for call in calls if call.startswith("undo")] == [f"undo {name}" for name in undone]
    assert {step.reason for group in groups[:2] for step in group} <= {error, None}
    assert "run drop" not in calls


def test_failed_undo_does_not_skip_the_others_and_is_raised(calls):
    error, undo_error = LookupError(), KeyError()
    prepare, change, finish = create_steps(calls, GROUPS, at="swap", error=error)
    change[0].undo_error = undo_error
    with pytest.raises(KeyError) as failed:
        run_steps(prepare, change, finish)
    assert failed.value is undo_error
    assert failed.value.__context__ is error
    assert calls[-4:] == ["undo swap", "undo load", "undo backup", "undo lock"]


def test_failed_finish_does_not_skip_the_others_and_undoes_nothing(calls):
    error = LookupError()
    with pytest.raises(LookupError):
        run_steps(*create_steps(calls, GROUPS, at="drop", error=error))
    assert calls[-2:] == ["run drop", "run release"]


@pytest.mark.usefixtures("_handlers")
def test_signal_interrupts_preparation_and_undo_is_complete(calls):
    with pytest.raises(signals.Interrupted):
        run_steps(*create_steps(calls, GROUPS, at="lock", stop=True))
    assert calls == ["run lock", "undo lock"]


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("name", ["load", "swap", "drop", "release"])
def test_signal_does_not_interrupt_change_and_finish(calls, name):
    run_steps(*create_steps(calls, GROUPS, at=name, stop=True))
    assert signals._received
    assert calls == [f"run {name}" for group in GROUPS for name in group]


@pytest.mark.usefixtures("_handlers")
def test_signal_that_arrived_before_starts_no_step(calls):
    with signals.defer_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(signals.Interrupted):
        run_steps(*create_steps(calls, GROUPS, at=""))
    assert calls == []
