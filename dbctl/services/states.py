"""Columns whose value may only be followed by certain others."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.errors import MoveRefusedError
from dbctl.services.apps import App
from dbctl.services.live import Live, find_column


def check_moves(
    app: App, database: str, live: Live, before: Mapping[str, object], after: Mapping[str, object]
) -> None:
    """Refuse a move that the profile does not know; call it where the row is held.

    Args:
        app: the app.
        database: the one in which the table is.
        live: the table.
        before: the row as it is.
        after: the columns that change.

    Raises:
        MoveRefusedError: it names what may follow.
    """
    for told in app.profile.states:
        if (told.database or app.main()) != database or told.table != live.name:
            continue
        column = find_column(live.table, told.column)
        if column is None or column not in after:
            continue
        old, new = (str("NULL" if row[column] is None else row[column]) for row in (before, after))
        known = list(dict.fromkeys([*told.moves, *(one for some in told.moves.values() for one in some)]))
        # what is no state at all has no way out of its own, and is to be mended
        allowed = told.moves.get(old, ()) if old in known else known
        if old != new and new not in allowed:
            raise MoveRefusedError(
                target=live.db.target,
                column=f"{live.name}.{column}",
                before=old,
                after=new,
                moves=", ".join(allowed) or "nothing, it is final",
                hint=f" {told.hint}" if told.hint else "",
            )
