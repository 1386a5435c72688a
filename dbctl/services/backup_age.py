"""How old the newest backup of each database is, and whether another one is due."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from dbctl.errors import RepositoryMissingError
from dbctl.model import Value, now, read_span
from dbctl.services.apps import App
from dbctl.services.backups import Repository


class Newest(Value, frozen=True, kw_only=True):
    """The newest backup that holds one database whole; those that a restore made do not count."""

    at: datetime | None  #: None: there is none
    due: str = ""  #: why another one is; empty: it is not


class Ages(Value, frozen=True, kw_only=True):
    """How old the backups of an app are."""

    newest: Mapping[str, Newest]  #: by database
    unread: Mapping[str, str]  #: backups whose manifest cannot be read, and why


def ages(app: App) -> Ages:
    """Return how old the backups are of which an app's configuration says where they are; empty where it does not.

    Raises:
        RepositoryFailedError: they cannot be reached.
    """
    told = app.configured.backup
    if told is None:
        return Ages(newest={}, unread={})
    try:
        (found, unread), missing = Repository(app).manifests(), ""
    except RepositoryMissingError as error:  # none was made yet, or its disk is not there: another one is due
        found, unread, missing = [], {}, f" ({error})"
    newest = {}
    for name, database in app.profile.databases.items():
        at = next((one.created_at for one in found if one.kind == "backup" and name in one.databases), None)
        due = ""
        if database.backup and name in app.configured.databases:
            if at is None:
                due = f"there is no backup{missing}"
            elif told.max_age and now() - at > read_span(told.max_age):
                due = f"the newest backup is older than {told.max_age}"
        newest[name] = Newest(at=at, due=due)
    return Ages(newest=newest, unread=unread)
