"""Take samples: of a backup without further queries, and of the live databases on request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError
from dbctl.files.mounts import read_volume
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.app.user_table import users_database
from dbctl.services.backup.manifest import Manifest
from dbctl.services.events.runs import JournalLocation
from dbctl.services.events.samples import Sample, TableSample, save_samples
from dbctl.services.history.growth import read_figures


def record_backup(location: JournalLocation, app: App, manifest: Manifest) -> None:
    """Record the databases of a complete backup, with the rows that its manifest has; a failure is ignored.

    The journal reports that it cannot be written when it records the run. Without a configuration or a journal nothing is recorded,
    because nothing identifies the app.
    """
    if location.folder is None or not location.config or manifest.kind != "backup":
        return
    samples = []
    for name in manifest.databases:
        members = [member for member in manifest.members if member.database == name]
        tables = {
            table: TableSample(rows=rows)
            for member in members
            for table, rows in member.rows.items()
            if table not in member.schema_only
        }
        with suppress(DbctlError):
            sample = measure_storage(app.reader(name), measure_database(app, name))
            samples.append(_add_tables(app, sample, tables))
    with suppress(DbctlError):
        save_samples(location.folder, location.config, samples)


def measure_database(app: App, name: str) -> Sample:
    """Return a sample with the size of the file of a database, and of its disk; nothing is opened."""
    url, files = app.url(name), app.engine(name).database_files(app.url(name))
    sample = Sample(app=app.name, database=name, taken_at=now())
    with suppress(OSError):
        sample = structs.replace(sample, bytes=files.file.stat().st_size if files else None)
    if url.is_local:
        with suppress(OSError):
            folder = Path(os.path.realpath(url.path)).parent
            volume, status = read_volume(folder), os.statvfs(folder)
            sample = structs.replace(
                sample,
                disk=volume.mount,
                free_bytes=volume.free_bytes,
                disk_bytes=status.f_blocks * status.f_frsize,
            )
    return sample


def measure_storage(db: Readable, sample: Sample) -> Sample:
    """Return a sample with the size of its open database, if that is not the size of a file."""
    return (
        structs.replace(sample, bytes=db.storage.measure_storage().bytes) if sample.bytes is None else sample
    )


def measure_tables(app: App, db: Readable, sample: Sample) -> Sample:
    """Return a sample with the rows and bytes of every table, the users, and the figures of the profile."""
    tables = {
        size.table: TableSample(rows=size.rows, bytes=size.bytes, estimated=size.estimated)
        for size in db.storage.measure_tables(exact=False)
    }
    return structs.replace(_add_tables(app, sample, tables), figures=read_figures(app, sample.database))


def _add_tables(app: App, sample: Sample, tables: Mapping[str, TableSample]) -> Sample:
    """Return a sample with its tables, and with the users if each row of their table is one."""
    users = app.profile.users
    has_users = users and sample.database == users_database(app) and not (users.only or users.excluded)
    user_table = tables.get(users.table.removesuffix("?")) if users and has_users else None
    return structs.replace(sample, tables=tables, users=user_table.rows if user_table else None)
