"""Records of what commands change: in the app's own table of actions, and in the audit log of dbctl."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from typing import cast

from dbctl.config import environment
from dbctl.engines.contract.database import Readable, Where, Writable
from dbctl.errors.connection import RowSkippedError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.user_table import User, open_users, users_database
from dbctl.spec import Write


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
        from dbctl.errors.users import ActingUserInactiveError

        raise ActingUserInactiveError(login=user.login, target=db.target)
    return user


def check_acting(app: App) -> None:
    """Refuse ``--acting-as`` before anything is planned.

    Raises:
        NotSupportedError: the app has no users.
        UserMissingError, AmbiguousLoginError, ActingUserInactiveError: as for ``acting_user``.
    """
    if app.core.users is None:
        hint = "It has no users. Omit --acting-as."
        raise NotSupportedError(feature="--acting-as", subject=app.core.title, hint=hint)
    acting_user(app, app.reader(users_database(app)))


def record(
    app: App, db: Writable, action: str, resource: str, resource_id: object, details: Mapping[str, object]
) -> None:
    """Record ``action`` in the app's audit log; do nothing if the app has none in this database.

    The row names the user of ``--acting-as``. Without the option it names no user of the app, and its username is ``dbctl`` with
    the name of the operator. The profile may map ``action``, such as ``users.create``, to the app's name. ``resource`` is the kind
    of the changed row, ``resource_id`` its key. ``details`` never contain a secret.
    """
    section = app.core.audit
    if section is None or section.table not in db.tables():
        return
    live = LiveTable(app.core, db, section.table, "the app's record of actions")
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
    with suppress(RowSkippedError):  # a trigger may store it in a partition
        db.insert(section.table, values)


@contextmanager
def record_writes(app: App, name: str, write: Write, database: Writable) -> Iterator[Writable]:
    """Yield a writer whose changes are recorded by ``app.recorder``, and the writer itself without a recorder.

    Raises:
        AuditUnavailableError: they cannot be recorded, and the audit log is required.
    """
    recorder = app.recorder
    if recorder is None or not write.audited:
        yield database
        return
    from dbctl.services.app.secrets import find_table_secrets, list_key_columns, list_row_secrets
    from dbctl.services.audit.capture import RecordedWriter

    audit = app.core.audit
    writer = RecordedWriter(
        database,
        name,
        recorder,
        has_images=write.undo,
        siblings=app.writers.values(),
        find_secrets=partial(
            list_row_secrets,
            app,
            name,
            cache(partial(find_table_secrets, app, name, database)),
            cache(partial(list_key_columns, database)),
        ),
        skipped=[audit.table] if audit else [],
    )
    # Without images, the writer is one operation, whatever the number of its transactions.
    with nullcontext() if write.undo else recorder.record_block([name], writer.name_counts):
        yield cast("Writable", writer)


def note_created_table(db: Writable, name: str) -> None:
    """Record a table that the open transaction created as a whole; what is inserted into it is only counted."""
    if images := getattr(db, "images", None):
        images.add(name, 0)
        images.created.add(name)


def note_changing_rows(db: Writable, table: str, columns: Collection[str], where: Sequence[Where]) -> None:
    """Record rows as they are before the first of them is changed: a trigger may change the others with it."""
    if images := getattr(db, "images", None):
        images.read_update(table, columns, where)


def note_dropped_table(db: Writable, name: str, rows: int) -> None:
    """Record that the open transaction drops a table; ``undo`` cannot revert that."""
    if images := getattr(db, "images", None):
        from dbctl.services.audit.capture import DROPPED

        images.add(name, rows)
        images.reasons[name] = DROPPED


@contextmanager
def record_operation(app: App, databases: Sequence[str]) -> Iterator[None]:
    """Record a block that replaces databases as one operation whose rows are not known.

    Raises:
        AuditUnavailableError: it cannot be recorded, and the audit log is required.
    """
    recorder = app.recorder
    with recorder.record_block(databases) if recorder else nullcontext():
        yield
