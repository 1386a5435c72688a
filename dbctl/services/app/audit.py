"""The app's own record of what was done: dbctl writes to it too, in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dbctl.config import model
from dbctl.engines.contract import Writable
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.app.live_table import Live, find_column


def record(
    app: App, db: Writable, action: str, resource: str, resource_id: object, details: Mapping[str, object]
) -> None:
    """Record ``action`` where the app keeps such records, in the same database; else do nothing.

    The row names the user on whose behalf the change is made (``--acting-as``); without one it names no user of the app, and its
    username is ``dbctl`` with the name of the operator.

    Args:
        app: the app.
        db: where the change happens; its transaction is open.
        action: dbctl's word for it, ``users.create``; the profile may know the app's own.
        resource: what kind of thing was changed.
        resource_id: which one.
        details: facts worth keeping, never a secret.
    """
    told = app.profile.audit
    if told is None or told.table not in db.tables():
        return
    live = Live(app.profile, db, told.table, "the app's record of actions")
    operator = f"dbctl ({model.operator()})"
    user = None
    if app.acting_as:
        from dbctl.services.app.acting import acting_user

        user = acting_user(app, db)
    facts = {
        "at": now(),
        "user": user.id if user else None,
        "username": user.login if user else operator,
        "action": told.actions.get(action, action),
        "resource": resource,
        "resource_id": str(resource_id),
        "details": json.dumps({**details, "by": operator if user else "dbctl"}, default=str),
    }
    values: dict[str, object] = {}
    for field, value in facts.items():
        column = find_column(live.table, told.fields.get(field))
        if column and value is not None:
            values[column] = live.encode(column, value)
    db.insert(told.table, values)
