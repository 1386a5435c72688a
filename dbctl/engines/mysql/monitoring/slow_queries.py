"""Which statements take long on a server, as its performance schema remembers them."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract import Slow
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.mysql.sql import tokens
from dbctl.engines.parsing import shown
from dbctl.errors import NotSupportedError

#: A timer counts picoseconds.
SLOW = """select digest_text, count_star, sum_timer_wait / 1e12, avg_timer_wait / 1e12, max_timer_wait / 1e12, sum_rows_sent
from performance_schema.events_statements_summary_by_digest where schema_name = database() and digest_text is not null
order by sum_timer_wait desc"""
SWITCHED_ON = (
    "Put performance_schema = ON below [mysqld] in its configuration and restart the server. Without it, SET GLOBAL"
    " slow_query_log = ON; SET GLOBAL long_query_time = 0.5; has slow ones written into the server's slow log"
    " (SET GLOBAL general_log = ON has every one; either may write down what stands in them as a value)."
)


class MySQLSlow(MySQLDialect):
    """Capability.SLOW."""

    def slow(self) -> Sequence[Slow]:
        if self._fetch("select @@performance_schema", {}) != [(1,)]:
            raise NotSupportedError(
                what="telling which statements are slow",
                by=f"{self.target} as it is",
                instead=SWITCHED_ON,
            )
        return [
            Slow(
                # The server writes names as this session does not; what is in backticks is none of a value.
                query=shown(str(query), tokens, "'\""),
                calls=int(str(calls)),
                total_seconds=round(float(str(total)), 6),
                mean_seconds=round(float(str(mean)), 6),
                max_seconds=round(float(str(most)), 6),
                rows=int(str(rows)),
                cache_hit_ratio=None,
            )
            for query, calls, total, mean, most, rows in self._fetch(SLOW, {})
        ]
