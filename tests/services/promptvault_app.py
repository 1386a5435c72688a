"""Apps with a repository, and functions for tests of backups and restores."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing, contextmanager
from datetime import datetime

from dbctl.config import secrets
from dbctl.config.model import Retention
from dbctl.config.sections import Selection
from dbctl.errors.usage import KeyMissingError
from dbctl.model import PageRequest
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.listing import list_backups
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.retention.prune import PruneBackups
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.restore.apply import ApplyRestore, find_undo_backup
from dbctl.services.restore.source import BackupSource
from tests.observed_progress import observe_progress
from tests.services import flashpoint_app

ALL_ROWS = PageRequest()
#: The app's audit log, to which a restore adds a row.
AUDIT_TABLE = "activity_logs"


def create_app(folder, shape):
    """Create an app of a variant, or ``larder``, with a repository in ``folder``; return the path of its database."""
    if shape == "larder":
        folder.mkdir(exist_ok=True)
        path = flashpoint_app.create_larder(folder)
        app = "larder"
    else:
        path = flashpoint_app.create_app(folder, shape)
        app = "fp"
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f'[apps.{app}.backup]\nrepository = "backups"\n')
    return path


def leave_out_rows(path, *tables):
    """Let backups of an app leave out the rows of tables."""
    names = ", ".join(f'"{name}"' for name in tables)
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f"schema_only = [{names}]\n")


@contextmanager
def open_repository(path, *, timeout=5, only=""):
    """Open the app whose configuration is next to the database at ``path``, and its repository."""
    from dbctl.services.app.session import open_app

    selection = Selection(config=str(path.with_name("dbctl.toml")))
    with open_app(selection, timeout=timeout, only=only) as app:
        yield app, Repository(app)


def create_app_backup(path, *, compress=None, **options):
    with open_repository(path, **options) as (_app, repository):
        return CreateBackup(repository, compress=compress).apply()


def create_keys(app, **options):
    """Return the decryption keys of an app; passphrase prompts fail."""

    def ask(request):
        raise KeyMissingError(target=request, reason="no terminal")

    return DecryptionKeys(secrets.find_decryption_files(app.configured, **options), ask)


def apply_restore(path, name="latest", *, advance=lambda _: None, **options):
    with open_repository(path, **options) as (_app, repository), observe_progress(advance):
        return create_restore(repository, name).apply()


def open_source(repository, manifest="latest", **options):
    """Return a backup, given as manifest or name, with its keys; ``options`` select the decryption files."""
    manifest = repository.find(manifest) if isinstance(manifest, str) else manifest
    return BackupSource(repository, manifest, create_keys(repository.app, **options))


def create_restore(repository, manifest, *, replace=True, **options):
    """Create the restore of a backup, given as manifest or name; ``options`` select the decryption files."""
    return ApplyRestore(open_source(repository, manifest, **options), replace=replace)


def undo_restore(path):
    with open_repository(path) as (_app, repository):
        return create_restore(repository, find_undo_backup(repository)).apply()


def list_all_backups(path):
    with open_repository(path) as (_app, repository):
        return list_backups(repository, ALL_ROWS)


def verify_backups(path, *names, deep=True):
    with open_repository(path) as (app, repository):
        return VerifyBackups(repository, names, deep=deep, keys=create_keys(app)).run().findings


def list_codes(findings):
    return [finding.code for finding in findings.findings]


def open_prune(path, **rules):
    @contextmanager
    def open_operation():
        with open_repository(path) as (_app, repository):
            yield PruneBackups(repository, Retention(**rules))

    return open_operation()


def find_backup_folder(path, backup):
    """Return the folder of a backup."""
    name = backup if isinstance(backup, str) else backup.id
    (root,) = [folder for folder in path.with_name("backups").iterdir() if folder.is_dir()]
    return root / name


def find_backup_file(path, backup):
    """Return the file of a backup's only database."""
    return find_backup_folder(path, backup) / backup.members[0].file


def decompress_backup(path, backup):
    """Return the database in the only file of a backup, decompressed with ``gunzip`` if needed."""
    file = find_backup_file(path, backup)
    if file.suffix != ".gz":
        return file
    plain = path.parent / f"decompressed-{backup.id}.db"
    with file.open("rb") as source, plain.open("wb") as target:
        subprocess.run(["gunzip", "-c"], stdin=source, stdout=target, check=True)
    return plain


def read_content(path):
    """Return every row of every table, except those that dbctl adds."""
    tables = flashpoint_app.read_all_rows(path)
    if "sqlite_sequence" in tables:
        tables["sqlite_sequence"] = [row for row in tables["sqlite_sequence"] if row[0] != AUDIT_TABLE]
    audit_rows = [row for row in tables.pop(AUDIT_TABLE, []) if "restore.apply" not in map(str, row)]
    return tables | {AUDIT_TABLE: audit_rows}


def delete_database(path):
    """Delete the database and its side files."""
    for side_file in path.parent.glob(f"{path.name}*"):
        side_file.unlink()


def add_free_pages(path):
    """Create more free pages than used pages, and rows in pages after the free ones."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table heap (text)")
        numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 600)"
        connection.execute(f"{numbers} insert into heap select hex(randomblob(1000)) from n")
        connection.execute("create table remaining as select * from heap limit 100")
        connection.execute("drop table heap")


def change_data(path):
    """Delete rows and add a table, so that a restore is needed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [
            name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        table = (
            "user_game_plays"
            if "user_game_plays" in names
            else next(name for name in names if "login" in name)
        )
        connection.execute(f"delete from {table}")
        connection.execute("create table new_table (at text)")
        connection.execute("insert into new_table values (?)", (datetime.now().isoformat(),))  # noqa: DTZ005
