"""The audit log of dbctl: what a writer of a database changes is recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import cast

from dbctl.engines.contract import Readable, Writable
from dbctl.services.app.app import App
from dbctl.services.app.secrets import find_table_secrets, list_row_secrets
from dbctl.services.app.write_paths import RESTORABLE, UNRECORDED
from dbctl.services.audit import RecordedWriter


@contextmanager
def record_writes(app: App, name: str, purpose: str, database: Writable) -> Iterator[Writable]:
    """Yield a writer whose changes are recorded by ``app.recorder``, and the writer itself without a recorder.

    Raises:
        AuditUnavailableError: they cannot be recorded, and the audit log is required.
    """
    recorder = app.recorder
    if recorder is None or purpose in UNRECORDED:
        yield database
        return
    audit = app.profile.audit
    writer = RecordedWriter(
        database,
        name,
        recorder,
        has_images=purpose in RESTORABLE,
        siblings=app.list_writers,
        find_secrets=create_secret_finder(app, name, database),
        skipped=[audit.table] if audit else [],
    )
    with writer.record_all():
        yield cast("Writable", writer)


def create_secret_finder(
    app: App, database: str, db: Readable
) -> Callable[[str, Mapping[str, object]], Collection[str]]:
    """Return the function that finds the secret columns of a row of a table."""
    find_columns = cache(partial(find_table_secrets, app, database, db))

    def find_secrets(table: str, row: Mapping[str, object]) -> Collection[str]:
        return list_row_secrets(app, database, table, row, find_columns(table))

    return find_secrets


@contextmanager
def record_operation(app: App, databases: Sequence[str]) -> Iterator[None]:
    """Record a block that replaces databases as one operation whose rows are not known.

    Raises:
        AuditUnavailableError: it cannot be recorded, and the audit log is required.
    """
    recorder = app.recorder
    with recorder.record_block(databases) if recorder else nullcontext():
        yield
