"""Whether the clock of this machine agrees with the times that rows, backups and files record.

The clock is implausible if all records are much older than it, if the backups have such a gap just before the last day (the
newest backups may have been created after a jump of the clock), or if a backup is later than it. Every rule that deletes by age
uses this check.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dbctl import model
from dbctl.engines.contract.database import Condition, Readable
from dbctl.errors.backup import ClockImplausibleError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.services.app.live_table import find_column
from dbctl.url import is_foreign_address

if TYPE_CHECKING:
    from dbctl.profiles.model.base import ColumnNames
    from dbctl.services.app.app import App
    from dbctl.stores.base import Store

#: If all records are older than this, a wrong clock is more likely than an unused app.
MAX_PAUSE = timedelta(days=30)
DAY = timedelta(days=1)
#: Time limit of one query about rows; a slower query is ignored.
TIME_LIMIT = timedelta(seconds=2)


class Records(NamedTuple):
    """Recorded times of one kind."""

    kind: str  #: in the plural
    regular: bool  #: whether a gap among them is unusual
    #: returns whether a time is in a range (None: open); None if the query takes too long
    has: Callable[[datetime | None, datetime | None], bool | None]


def has_time(times: Sequence[datetime], since: datetime | None, before: datetime | None) -> bool:
    """Return whether one of the times is in a range (None: open)."""
    return any((since is None or since <= time) and (before is None or time < before) for time in times)


def _has_row(
    columns: Sequence[tuple[Readable, str, str]], since: datetime | None, before: datetime | None
) -> bool | None:
    """Return whether a column (database, table, name) has a time in a range; None if a query takes too long."""
    is_clear = True
    for database, table, column in columns:
        where = [Condition(column, ">=", since)] if since else []
        where += [Condition(column, "<", before)] if before else []
        result = database.exists(table, where, timeout=TIME_LIMIT)
        if result:
            return True
        is_clear = is_clear and result is not None
    return False if is_clear else None


def find_contradiction(records: Sequence[Records], *, reach: timedelta = MAX_PAUSE) -> str:
    """Return how the clock contradicts the records; empty: it agrees with them, or there are none.

    ``reach`` is the maximum age of the newest record that is older than one day.
    """
    timestamp = model.now()
    limit, yesterday = timestamp - max(reach, DAY), timestamp - DAY
    if any(source.has(limit, yesterday) is not False for source in records):
        return ""
    # An expiry may be in the future; a time in the far future is no evidence of the present.
    recent = [source for source in records if source.has(yesterday, timestamp + MAX_PAUSE) is not False]
    earlier = [source for source in records if source.has(None, limit)]
    if earlier and not recent:
        kinds = ", ".join(source.kind for source in earlier)
        return f"it is more than {_in_days(reach)} later than all recorded times ({kinds})"
    if gaps := [source.kind for source in recent if source in earlier and source.regular]:
        return f"before the last day nothing was recorded for more than {_in_days(reach)} ({', '.join(gaps)})"
    return ""


def find_future(backups: Iterable[tuple[str, datetime]]) -> list[str]:
    """Return the ids of the backups (id, time) that are later than the clock."""
    limit = model.now() + model.MAX_SKEW
    return [name for name, time in backups if time > limit]


def check(app: App) -> None:
    """Refuse a deletion by age if the clock contradicts the records of the app, unless the user trusts the clock.

    Raises:
        ClockImplausibleError: the clock contradicts the records; nothing was changed.
    """
    if app.trust_clock:
        return
    backups = local_backups(app)
    if future := find_future(backups):
        raise create_future_error(future)
    raise_if_implausible(find_contradiction(_records(app, [time for _, time in backups])))


def raise_if_implausible(reason: str) -> None:
    """Raise ``ClockImplausibleError`` if there is a reason."""
    if reason:
        raise ClockImplausibleError(now=_format_now(), reason=reason, hint="run it again with --trust-clock.")


def create_future_error(future: Sequence[str]) -> ClockImplausibleError:
    """Return the error for backups that are later than the clock."""
    plural = "backups {} are" if len(future) > 1 else "backup {} is"
    return ClockImplausibleError(
        now=_format_now(),
        reason=f"{plural.format(', '.join(future))} from the future",
        hint=Remedy("delete them with: `backup delete {ids}`"),
        ids=future,
    )


def find_app_contradiction(app: App) -> str:
    """Return how the clock contradicts all records of the app; empty: it does not."""
    return find_contradiction(_records(app, [time for _, time in local_backups(app)]))


def local_backups(app: App) -> list[tuple[str, datetime]]:
    """Return the ids and times of the backups of an app in a local directory; remote storage is not queried.

    An adopted backup is missing: its time is that of a file, which this machine did not record.
    """
    config = app.configured.backup
    if config is None or is_foreign_address(config.repository):
        return []

    backups = list[tuple[str, datetime]]()
    from dbctl.config import environment
    from dbctl.stores import registry
    from dbctl.stores.base import FolderState, folders_in_state

    with suppress(DbctlError):  # a missing repository has no records
        store = registry.open_store(
            config.repository,
            app.name,
            folder=app.configured.folder,
            staging=environment.staging_folder(app.configured),
            timeout=app.timeout,
        )
        for name in folders_in_state(store.list_folders(), FolderState.COMPLETE):
            if _is_adopted(store, name):
                continue
            with suppress(ValueError):  # not the id of a backup
                backups.append((name, datetime.strptime(name, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)))
    return backups


def _is_adopted(store: Store, folder: str) -> bool:
    with suppress(msgspec.DecodeError):
        text = store.read_manifest(folder)
        return text is not None and msgspec.json.decode(text, type=_AdoptedManifest).backup.origin is not None
    return False  # backup verify reports an unreadable manifest


class _AdoptedBackup(msgspec.Struct):
    origin: dict[str, object] | None = None


class _AdoptedManifest(msgspec.Struct):
    """The part of a manifest that describes its origin."""

    backup: _AdoptedBackup


def _records(app: App, backups: Sequence[datetime]) -> list[Records]:
    return [
        Records(
            "rows", regular=False, has=partial(_has_row, list(_time_columns(app)))
        ),  # rarely used apps have gaps
        Records("backups", regular=True, has=partial(has_time, backups)),
        Records("files", regular=False, has=partial(has_time, list(_modification_times(app)))),
    ]


def _time_columns(app: App) -> Iterator[tuple[Readable, str, str]]:
    """Yield the columns that the profile names for ages, actions and sign-ins, if they can be read."""
    profile, candidates = app.profile, list[tuple[str, str, "ColumnNames | None"]]()
    candidates += [(rule.database, rule.table, rule.age.column) for rule in profile.cleanup]
    if profile.audit:
        candidates.append(("", profile.audit.table, profile.audit.fields.get("at")))
    if users := profile.users:
        candidates += [
            (users.database, users.table, users.fields.get(name)) for name in ("last_login_at", "created_at")
        ]
    seen = set[tuple[str, str, str]]()
    for database, table, names in candidates:
        name, table_name = database or app.main_database, table.removesuffix("?")
        if name not in app.configured.databases:
            continue
        with suppress(DbctlError):  # an unreadable database has no records
            db = app.reader(name)
            column = find_column(db.tables().get(table_name), names)
            if column and (name, table_name, column) not in seen:
                seen.add((name, table_name, column))
                yield db, table_name, column


def _modification_times(app: App) -> Iterator[datetime]:
    """Yield the modification times of the files of the databases."""
    for url in app.configured.databases.values():
        if url.is_local:
            for path in _files(Path(url.path)):
                with suppress(OSError):
                    stat = path.stat()
                    if stat.st_size:  # a reader creates an empty WAL
                        yield datetime.fromtimestamp(max(0.0, stat.st_mtime), UTC)


def _files(path: Path) -> Iterator[Path]:
    yield from (path, path.with_name(f"{path.name}-wal"))
    if os.path.isdir(path):  # a folder of tables: adding a file changes the time of the folder it is in
        with suppress(OSError):
            yield from (entry for entry in (*path.glob("*"), *path.glob("*/*")) if entry.is_dir())


def _in_days(reach: timedelta) -> str:
    return model.format_count(max(reach, DAY).days, "day")


def _format_now() -> str:
    return f"{model.now():%Y-%m-%d %H:%M} UTC"
