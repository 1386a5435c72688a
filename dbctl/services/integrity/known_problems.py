"""Known problems that the profile describes: rows with published secrets, and rows that violate invariants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Condition, Not, Readable, Where
from dbctl.model import Secret, Struct, format_count
from dbctl.profiles import EPOCH, estimate_cost, verify_password
from dbctl.profiles.model import InvariantQuery, KnownSecret
from dbctl.services.app import App, LiveTable
from dbctl.services.deletion import create_query, select_variant

#: Hashed secrets per check; each takes as long as a sign-in.
MAX_TRIED = 20
#: Hashes that take longer are not tried.
MAX_SECONDS = 1.0
EXAMPLES = 5


class KnownProblem(Struct, frozen=True, kw_only=True):
    """A problem, and the number of affected rows."""

    message: str
    rows: int


def find_known_secret(app: App, db: Readable, secret: KnownSecret) -> KnownProblem | None:
    """Return the rows with a published secret, or None; messages never contain the secret."""
    table = secret.table.removesuffix("?")
    if table not in db.tables() and table != secret.table:
        return None
    live_table = LiveTable(app.profile, db, table, f"the check {secret.name}")
    where: list[Where] = [*live_table.conditions(secret.where)]
    key, column = live_table.column(secret.key), live_table.column(secret.column)
    if secret.codec is None:
        rows = db.select(table, [key], [*where, Condition(column, "=", secret.value)], limit=EXAMPLES + 1)
        keys = [str(row[0]) for row in rows]
    else:
        keys = list(_find_matching(db, secret, table, (key, column), where))
    if not keys:
        return None
    examples = ", ".join(keys[:EXAMPLES]) + (" …" if len(keys) > EXAMPLES else "")
    message = f"{table} ({key} {examples}) has a published secret ({secret.name})"
    return KnownProblem(message=message, rows=len(keys))


def _find_matching(
    db: Readable, secret: KnownSecret, table: str, columns: tuple[str, str], where: list[Where]
) -> Iterator[str]:
    accepted = [secret.codec] if secret.codec else []
    for key, stored in db.select(table, list(columns), where, limit=MAX_TRIED):
        cost = estimate_cost(str(stored))
        is_tried = cost.is_accepted and cost.seconds <= MAX_SECONDS
        if is_tried and verify_password(Secret(secret.value), str(stored), accepted):
            yield str(key)


def find_flaw(app: App, db: Readable, flaw: InvariantQuery) -> KnownProblem | None:
    """Return the rows that violate an invariant, or None."""
    variant = select_variant(flaw, db)
    if variant and variant.times:
        return _find_invalid_times(db, flaw, variant.times)
    query = create_query(app, flaw, db)
    if query is None:
        return None
    sql = f"select q.*, count(*) over () from ({query.sql}) q limit {EXAMPLES}"
    rows = db.query(sql, query.parameters)
    if not rows:
        return None
    total = int(str(rows[0][-1]))
    examples = ", ".join(_format_value(row[0]) for row in rows) + (" …" if total > len(rows) else "")
    return KnownProblem(message=f"{format_count(total, 'row')}: {flaw.name} ({examples})", rows=total)


def _find_invalid_times(
    db: Readable, flaw: InvariantQuery, column_names: Sequence[str]
) -> KnownProblem | None:
    """Return the rows with a value that is not a time, or None."""
    counts, examples = dict[str, int](), list[str]()
    for column_name in column_names:
        table, _, column = column_name.partition(".")
        where: list[Where] = [
            Condition(column, "!=", None),
            Not(Condition(column, ">=", EPOCH)),
            Not(Condition(column, "<", EPOCH)),
        ]
        if row_count := db.count(table, where):
            counts[column_name] = row_count
            examples += [_format_value(row[0]) for row in db.select(table, [column], where, limit=EXAMPLES)]
    if not counts:
        return None
    counts_text = ", ".join(f"{column_name}: {row_count}" for column_name, row_count in counts.items())
    examples_text = ", ".join(dict.fromkeys(examples[:EXAMPLES]))
    total = sum(counts.values())
    return KnownProblem(
        message=f"{format_count(total, 'row')}: {flaw.name} ({counts_text}; {examples_text})", rows=total
    )


def _format_value(value: object) -> str:
    """Return a value as text, with invalid bytes escaped."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
