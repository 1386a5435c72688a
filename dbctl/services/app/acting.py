"""The user of the app on whose behalf a change is made (``--acting-as``)."""

from __future__ import annotations

from dbctl.engines.contract import Readable
from dbctl.errors import ActingUserInactiveError, NotSupportedError
from dbctl.services.app.app import App
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


def check(app: App) -> None:
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
