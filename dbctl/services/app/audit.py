"""The app's audit log: dbctl adds its own changes, in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dbctl.config import environment
from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.usage import NotSupportedError
from dbctl.errors.users import ActingUserInactiveError
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.user_table import User, open_users, users_database


def acting_user(app: App, db: Readable) -> User | None:
    """Return the user of ``--acting-as``, read in the open transaction of a change; None without the option.

    Raises:
        UserMissingError, AmbiguousLoginError: no user, or several users have the login.
        ActingUserInactiveError: the user is not active.
    """
    if not app.acting_as:
        return None
    user = open_users(app, db).find_by_login(app.acting_as)
    if user.active is False:
        raise ActingUserInactiveError(login=user.login, target=db.target)
    return user


def check_acting(app: App) -> None:
    """Refuse ``--acting-as`` before anything is planned.

    Raises:
        NotSupportedError: the app has no users.
        UserMissingError, AmbiguousLoginError, ActingUserInactiveError: as for ``acting_user``.
    """
    if app.profile.users is None:
        hint = "It has no users. Omit --acting-as."
        raise NotSupportedError(feature="--acting-as", subject=app.profile.title, hint=hint)
    acting_user(app, app.reader(users_database(app)))


def record(
    app: App, db: Writable, action: str, resource: str, resource_id: object, details: Mapping[str, object]
) -> None:
    """Record ``action`` in the app's audit log; do nothing if the app has none in this database.

    The row names the user of ``--acting-as``. Without the option it names no user of the app, and its username is ``dbctl`` with
    the name of the operator. The profile may map ``action``, such as ``users.create``, to the app's name. ``resource`` is the kind
    of the changed row, ``resource_id`` its key. ``details`` never contain a secret.
    """
    section = app.profile.audit
    if section is None or section.table not in db.tables():
        return
    live = LiveTable(app.profile, db, section.table, "the app's record of actions")
    operator = f"dbctl ({environment.operator_name()})"
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
