"""The ids of backups, and the names of the files in them."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from dbctl.files import ENDINGS
from dbctl.services.app import App

#: A second backup of one second is called after the next.
SECOND = timedelta(seconds=1)

#: The id of a backup, taken apart.
COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)")


def free_id(at: datetime, taken: Collection[str]) -> str:
    """Return the id of a backup of that moment, or of the first second behind it that is free."""
    while (name := at.astimezone(UTC).strftime("%Y%m%d_%H%M%S")) in taken:
        at += SECOND
    return name


def file_name(app: App, database: str, time: str, *, ending: str = "") -> str:
    """Return how the file of a database is called in a backup, as its app's own documents call it.

    What is no file of its own kind has an ``ending`` of its own, in place of what stands behind the time. Whether it is
    packed is not the documents' choice: what they call ``.gz`` is so called once it is.
    """
    told = app.profile.file_name(database)
    if ending:
        told = told[: told.index("{time}") + len("{time}")] + ending
    else:
        told = next((told.removesuffix(one) for one in ENDINGS.values() if one and told.endswith(one)), told)
    if app.profile.backup.time == "iso":
        time = COMPACT.sub(r"\1-\2-\3T\4-\5-\6-000Z", time)
    return told.replace("{time}", time)
