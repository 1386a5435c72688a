"""No test leaves a store open: it would be found by the tests that list the open files of their process."""

import pytest

from tests.services.events.kills import list_open_files


@pytest.fixture(autouse=True)
def _closed_stores():
    before = list_open_files()
    yield
    assert list_open_files() <= before
