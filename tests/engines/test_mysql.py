"""MySQL and MariaDB keep the contract."""

from __future__ import annotations

import pytest

from dbctl.errors import QueryFailedError
from tests.conformance.contract import EngineContract


class TestMySQL(EngineContract):
    @pytest.fixture
    def fresh(self, mysql):
        return mysql


@pytest.mark.parametrize(
    "sql",
    [
        "select load_file('/etc/passwd')",
        "select get_lock('x', 0)",
        "select 1 into outfile '/tmp/x'",
        "select `sys_exec`('id')",
    ],
)
def test_a_question_that_reaches_out_of_the_tables_is_refused(mysql, sql):
    with pytest.raises(QueryFailedError, match="more than"), mysql.reader().ask(sql):
        pass
