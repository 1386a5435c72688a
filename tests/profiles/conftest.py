"""Slow variants of tests of profiles."""

from tests.server_variants import pytest_pycollect_makeitem  # noqa: F401 - a hook
