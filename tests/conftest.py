"""What every test relies on, wherever it is run."""

from __future__ import annotations

import json
import signal

import pytest

from dbctl.cli.main import main

# A job in the background of a shell without job control has SIGINT ignored, and all that it starts with it; under nohup
# it is SIGHUP. Tests that send these signals to a child must see it obey all the same.
for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def answer(capsys):
    """Runs a command in this process and returns its JSON, once it has ended as it should: ``None`` for anyhow."""

    def run(*words, status=0):
        capsys.readouterr()
        ended = main([*words, "-o", "json"])
        told = json.loads(capsys.readouterr().out)
        assert told["exit_code"] == ended
        assert status in (None, ended), told
        return told

    return run
