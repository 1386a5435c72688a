"""PostgreSQL keeps the contract."""

from __future__ import annotations

import pytest

from tests.conformance.contract import EngineContract


class TestPostgreSQL(EngineContract):
    @pytest.fixture
    def fresh(self, postgresql):
        return postgresql
