"""The app's own record of what was done: dbctl writes to it too, in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dbctl.config import environment
from dbctl.engines.contract import Readable, Writable
from dbctl.errors import ActingUserInactiveError, NotSupportedError
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.app.live_table import Live, find_column
from dbctl.services.app.user_table import User, database_of, users_beside


def acting_user(app: App, db: Readable) -> User | None:
    """Return the user whom ``--acting-as`` names, read in the open transaction of a change; None where it names none.

    Raises:
        UserMissingError, AmbiguousLoginError: there is no such user, or the login fits several.
        ActingUserInactiveError: the user is not active.
    """
    if not app.acting_as:
        return None
    user = users_beside(app, db).one(app.acting_as)
    if user.active is False:
        raise ActingUserInactiveError(login=user.login, target=db.target)
    return user


def check_acting(app: App) -> None:
    """Refuse ``--acting-as`` before anything is planned.

    Raises:
        NotSupportedError: the app stores no user with a change.
        And as ``acting_user`` does.
    """
    audit = app.profile.audit
    if not (
        (audit and "user" in audit.fields)
        or any("updated_by" in settings.fields for settings in app.profile.settings)
    ):
        instead = "It stores no user with a change. Leave --acting-as out."
        raise NotSupportedError(what="--acting-as", by=app.profile.title, instead=instead)
    acting_user(app, app.reader(database_of(app)))


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
    section = app.profile.audit
    if section is None or section.table not in db.tables():
        return
    live = Live(app.profile, db, section.table, "the app's record of actions")
    operator = f"dbctl ({environment.operator()})"
    user = None
    if app.acting_as:
        user = acting_user(app, db)
    facts = {
        "at": now(),
        "user": user.id if user else None,
        "username": user.login if user else operator,
        "action": section.actions.get(action, action),
        "resource": resource,
        "resource_id": str(resource_id),
        "details": json.dumps({**details, "by": operator if user else "dbctl"}, default=str),
    }
    values: dict[str, object] = {}
    for field, value in facts.items():
        column = find_column(live.table, section.fields.get(field))
        if column and value is not None:
            values[column] = live.encode(column, value)
    db.insert(section.table, values)
