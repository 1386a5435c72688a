"""The audit log of dbctl: what a writer of a database changes is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import cast

from dbctl.engines.contract.database import Writable
from dbctl.services.app.app import App
from dbctl.services.app.secrets import find_table_secrets, list_key_columns, list_row_secrets
from dbctl.services.audit.capture import RecordedWriter
from dbctl.spec import Write


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
    audit = app.profile.audit
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


@contextmanager
def record_operation(app: App, databases: Sequence[str]) -> Iterator[None]:
    """Record a block that replaces databases as one operation whose rows are not known.

    Raises:
        AuditUnavailableError: it cannot be recorded, and the audit log is required.
    """
    recorder = app.recorder
    with recorder.record_block(databases) if recorder else nullcontext():
        yield
