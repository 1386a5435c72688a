"""Apps with a repository to keep backups in, and what the tests of backups and restores ask of them."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing, contextmanager
from datetime import datetime

from dbctl.config import Keep, Selection
from dbctl.model import Window
from dbctl.services import apps, backup_verify, backups, restore
from dbctl.services.backup_create import Creation
from dbctl.services.backup_prune import Pruning
from dbctl.services.backups import Repository
from dbctl.services.restore import Restoring
from tests.services import people

EVERY = Window()
#: What a restore adds to the app's own record of actions.
RECORD = "activity_logs"


def settle(folder, shape):
    """Put an app of that shape, or ``larder``, into ``folder``, with a repository; return the path of its database."""
    if shape == "larder":
        folder.mkdir(exist_ok=True)
        path = people.settle_larder(folder)
        app = "larder"
    else:
        path = people.settle(folder, shape)
        app = "fp"
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f'[apps.{app}.backup]\nrepository = "backups"\n')
    return path


@contextmanager
def opened(path, *, timeout=5, only=""):
    """Give the app beside the database at ``path``, and its repository."""
    selection = Selection(config=str(path.with_name("dbctl.toml")))
    with apps.opened(selection, timeout=timeout, only=only) as app:
        yield app, Repository(app)


def create(path, *, compress=None, **more):
    with opened(path, **more) as (app, repository):
        return Creation(app, repository, timeout=app.timeout, compress=compress).apply()


def apply(path, name="latest", *, advance=lambda _bytes: None, **more):
    with opened(path, **more) as (app, repository):
        manifest = repository.find(name)
        return Restoring(app, repository, manifest, timeout=app.timeout, advance=advance).apply()


def restoring(app, repository, name):
    """Return a restore that is about to be done."""
    return Restoring(app, repository, repository.find(name), timeout=app.timeout)


def undo(path):
    with opened(path) as (app, repository):
        manifest = restore.latest_safety(app, repository)
        return Restoring(app, repository, manifest, timeout=app.timeout).apply()


def listed(path):
    with opened(path) as (_app, repository):
        return backups.list_backups(repository, EVERY)


def verified(path, *names, deep=True):
    with opened(path) as (app, repository):
        return backup_verify.verify(app, repository, names, deep=deep).findings


def codes(findings):
    return [one.code for one in findings.findings]


def pruning(path, **rules):
    @contextmanager
    def made():
        with opened(path) as (app, repository):
            yield Pruning(app, repository, Keep(**rules), timeout=1)

    return made()


def folder_of(path, made):
    """Return the folder of a backup."""
    name = made if isinstance(made, str) else made.id
    (root,) = [one for one in path.with_name("backups").iterdir() if one.is_dir()]
    return root / name


def file_of(path, made):
    """Return the file of a backup's only database."""
    return folder_of(path, made) / made.members[0].file


def plain_of(path, made):
    """Return the database in the only file of a backup, as ``gunzip`` alone brings it back where it is packed."""
    file = file_of(path, made)
    if file.suffix != ".gz":
        return file
    plain = path.parent / f"unpacked-{made.id}.db"
    with file.open("rb") as packed, plain.open("wb") as made_of_it:
        subprocess.run(["gunzip", "-c"], stdin=packed, stdout=made_of_it, check=True)
    return plain


def content(path):
    """Return every row of every table but those that dbctl itself adds."""
    told = people.content(path)
    if "sqlite_sequence" in told:
        told["sqlite_sequence"] = [row for row in told["sqlite_sequence"] if row[0] != RECORD]
    record = [row for row in told.pop(RECORD, []) if "restore.apply" not in map(str, row)]
    return told | {RECORD: record}


def spoil(path):
    """Do what an admin regrets: delete users and most of what was played."""
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [
            name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        table = (
            "user_game_plays" if "user_game_plays" in names else next(one for one in names if "login" in one)
        )
        connection.execute(f"delete from {table}")
        connection.execute("create table regrets (at text)")
        connection.execute("insert into regrets values (?)", (datetime.now().isoformat(),))  # noqa: DTZ005 - any text
