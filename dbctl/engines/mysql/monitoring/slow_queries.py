"""Slow statements of a server, from its performance schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import SlowQuery
from dbctl.engines.mysql.sql import tokenize
from dbctl.engines.parsing import redact_statement
from dbctl.errors import NotSupportedError

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase


#: Timers count picoseconds.
STATEMENTS = """select digest_text, count_star, sum_timer_wait / 1e12, avg_timer_wait / 1e12, max_timer_wait / 1e12, sum_rows_sent
from performance_schema.events_statements_summary_by_digest where schema_name = database() and digest_text is not null
order by sum_timer_wait desc"""
INSTRUCTIONS = (
    "Put performance_schema = ON below [mysqld] in its configuration and restart the server. Without it, SET GLOBAL"
    " slow_query_log = ON; SET GLOBAL long_query_time = 0.5; logs slow statements on the server"
    " (SET GLOBAL general_log = ON logs all statements; either may log values)."
)


class MySQLSlowQueries:
    """The part ``SlowQueryMonitor``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._connection = db.connection

    def list_slow_queries(self) -> Sequence[SlowQuery]:
        if self._connection.fetch("select @@performance_schema") != [(1,)]:
            raise NotSupportedError(
                feature="listing slow statements",
                subject=f"{self._connection.target} with its current settings",
                hint=INSTRUCTIONS,
            )
        return [
            SlowQuery(
                # The server quotes names with backticks, unlike this session; they contain no values.
                query=redact_statement(str(query), tokenize, "'\""),
                calls=int(str(calls)),
                total_seconds=round(float(str(total_time)), 6),
                mean_seconds=round(float(str(mean_time)), 6),
                max_seconds=round(float(str(max_time)), 6),
                rows=int(str(rows)),
                cache_hit_ratio=None,
            )
            for query, calls, total_time, mean_time, max_time, rows in self._connection.fetch(STATEMENTS)
        ]
