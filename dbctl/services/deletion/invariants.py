"""Invariants of a profile: their queries, and the refusal of deletions that violate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import PlannedRows, Preview, Readable
from dbctl.errors.users import InvariantViolatedError
from dbctl.model import Struct, time_before
from dbctl.profiles.codecs import TIMES
from dbctl.profiles.model.integrity import InvariantQuery, InvariantVariant
from dbctl.services.app.app import App
from dbctl.services.app.live_table import has_all
from dbctl.units import parse_duration


class ProblemQuery(Struct, frozen=True, kw_only=True):
    """The query for rows that violate an invariant."""

    sql: str
    parameters: Mapping[str, object]


def create_query(app: App, flaw: InvariantQuery, db: Readable) -> ProblemQuery | None:
    """Return the query for rows that violate an invariant, or None if the database lacks their tables."""
    variant = select_variant(flaw, db)
    if variant is None or not variant.sql:
        return None
    parameters = (
        {"since": TIMES[app.profile.time](time_before(parse_duration(flaw.since)))} if flaw.since else {}
    )
    return ProblemQuery(sql=variant.sql.strip(), parameters=parameters)


def select_variant(flaw: InvariantQuery, db: Readable) -> InvariantVariant | None:
    """Return the variant of an invariant whose tables and columns exist, or None."""
    return next((variant for variant in flaw.variant if has_all(db.tables(), variant.needs)), None)


class GuardedInvariants:
    """The rows that violate invariants with ``guards_deletion`` before a deletion.

    Both methods raise InvariantViolatedError, which names the invariant and the rows, if the deletion adds such rows.
    """

    def __init__(self, app: App, db: Readable, database: str) -> None:
        self._db, self._preview = db, db.part(Preview)
        self._queries = {
            flaw.name: query
            for flaw in app.profile.invariant
            if flaw.guards_deletion
            and app.resolve_database(flaw) == database
            and (query := create_query(app, flaw, db))
        }
        self._before = {
            name: _read_keys(db.query(query.sql, query.parameters)) for name, query in self._queries.items()
        }

    def __bool__(self) -> bool:
        return bool(self._queries)

    def refuse_planned(self, changes: Sequence[PlannedRows]) -> None:
        """Refuse a planned deletion; an engine without the part ``Preview`` refuses it when it is applied."""
        if self._preview is None:
            return
        for name, query in self._queries.items():
            self._refuse(name, self._preview.query_after(changes, query.sql, query.parameters))

    def refuse_applied(self) -> None:
        """Refuse a deletion at the end of its transaction, which also contains the effects of triggers."""
        for name, query in self._queries.items():
            self._refuse(name, self._db.query(query.sql, query.parameters))

    def _refuse(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        if violations := _read_keys(rows) - self._before[name]:
            raise InvariantViolatedError(
                target=self._db.target, name=name, keys=", ".join(sorted(violations))
            )


def _read_keys(rows: Sequence[Sequence[object]]) -> set[str]:
    return {str(row[0]) for row in rows}
