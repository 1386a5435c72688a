"""MySQL and MariaDB keep the contract."""

from __future__ import annotations

import pytest

from tests.conformance.contract import EngineContract


class TestMySQL(EngineContract):
    @pytest.fixture
    def fresh(self, mysql):
        return mysql
