"""The hook of folders whose tests are slow on servers: what they test follows from code that all engines share."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

#: In the identifier of a variant that needs a server.
ON_SERVER = re.compile("postgresql|mysql|mariadb")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """Mark the variants of a test on servers as slow if it has one without: they take two to five times as long."""
    collected: object = yield
    tests: list[Any] = collected if isinstance(collected, list) else []
    variants = {test: test.callspec.id for test in tests if hasattr(test, "callspec")}
    if any("sqlite" in variant and not ON_SERVER.search(variant) for variant in variants.values()):
        for test, variant in variants.items():
            if ON_SERVER.search(variant):
                test.add_marker(pytest.mark.slow)
    return collected
