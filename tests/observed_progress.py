"""Observe the progress that services report."""

from __future__ import annotations

from contextlib import contextmanager

from dbctl import progress


@contextmanager
def observe_progress(advance):
    """Call ``advance`` with each amount of work that is done in the block."""

    class ObservedWork(progress.Work):
        def advance(self, count=1):
            advance(count)

    with progress.track(ObservedWork("test"), None):
        yield
