"""Take samples: of a backup without further queries, and of the live databases on request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import structs

from dbctl.engines.contract import SizeMonitor
from dbctl.errors import DbctlError, JournalDisabledError
from dbctl.files import read_volume
from dbctl.model import now
from dbctl.services.app import App, users_database
from dbctl.services.backup import Manifest
from dbctl.services.events.location import JournalLocation
from dbctl.services.events.samples import Sample, TableSample, save_samples


class SampleRecorder:
    """The samples of a configuration; without a configuration or a journal none, because nothing identifies the app."""

    def __init__(self, location: JournalLocation) -> None:
        self._location = location

    def record_backup(self, app: App, manifest: Manifest) -> None:
        """Record the databases of a complete backup, with the rows that its manifest has; a failure is ignored.

        The journal reports that it cannot be written when it records the run.
        """
        location = self._location
        if location.folder is None or not location.config or manifest.kind != "backup":
            return
        samples = []
        for name in manifest.databases:
            members = [member for member in manifest.members if member.database == name]
            tables = {
                table: TableSample(rows=rows) for member in members for table, rows in member.rows.items()
            }
            with suppress(DbctlError, OSError):
                samples.append(_measure_database(app, name, tables))
        with suppress(DbctlError):
            save_samples(location.folder, location.config, samples)

    def record_status(self, app: App) -> None:
        """Measure the tables and figures of every database, and record them; unreadable databases are omitted.

        Raises:
            JournalDisabledError, JournalUnavailableError, JournalCorruptError: they were not recorded.
        """
        from dbctl.services.history.figures import read_figures

        folder = self._location.require_folder()
        if not self._location.config:
            raise JournalDisabledError(reason="without a configuration, nothing identifies the app")
        samples = []
        for name in app.profile.databases:
            if name not in app.configured.databases or app.only not in ("", name):
                continue
            with suppress(DbctlError, OSError):  # the status reports it
                sizes = app.reader(name).part(SizeMonitor)
                tables = {
                    size.table: TableSample(rows=size.rows, bytes=size.bytes, estimated=size.estimated)
                    for size in (sizes.measure_tables(exact=False) if sizes else ())
                }
                sample = _measure_database(app, name, tables)
                samples.append(structs.replace(sample, figures=read_figures(app, name)))
        save_samples(folder, self._location.config, samples)


def _measure_database(app: App, name: str, tables: Mapping[str, TableSample]) -> Sample:
    """Return a sample with the size of a database and of its disk; queries nothing large."""
    sizes = app.reader(name).part(SizeMonitor)
    users = app.profile.users
    # The rows of a table with other rows are not the users.
    has_users = users and name == users_database(app) and not (users.only or users.excluded)
    user_table = tables.get(users.table.removesuffix("?")) if users and has_users else None
    sample = Sample(
        app=app.name,
        database=name,
        taken_at=now(),
        bytes=sizes.measure_storage().bytes if sizes else None,
        users=user_table.rows if user_table else None,
        tables=tables,
    )
    url = app.url(name)
    if not url.is_local:
        return sample
    folder = Path(os.path.realpath(url.path)).parent
    volume, status = read_volume(folder), os.statvfs(folder)
    return structs.replace(
        sample,
        disk=volume.mount,
        free_bytes=volume.free_bytes,
        disk_bytes=status.f_blocks * status.f_frsize,
    )
