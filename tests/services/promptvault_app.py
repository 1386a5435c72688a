"""Apps with a repository to keep backups in, and what the tests of backups and restores ask of them."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing, contextmanager
from datetime import datetime

from dbctl.config import Keep, Selection, secrets
from dbctl.errors import KeyMissingError
from dbctl.model import Window
from dbctl.services.app import app as apps
from dbctl.services.backup import verify
from dbctl.services.backup.create import Creation
from dbctl.services.backup.encryption import Keys
from dbctl.services.backup.prune import Pruning
from dbctl.services.backup.repository import Repository, list_backups
from dbctl.services.restore.apply import Restoring, latest_safety
from tests.services import flashpoint_app

EVERY = Window()
#: What a restore adds to the app's own record of actions.
RECORD = "activity_logs"


def settle(folder, shape):
    """Put an app of that shape, or ``larder``, into ``folder``, with a repository; return the path of its database."""
    if shape == "larder":
        folder.mkdir(exist_ok=True)
        path = flashpoint_app.settle_larder(folder)
        app = "larder"
    else:
        path = flashpoint_app.settle(folder, shape)
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


def keys_of(app, **named):
    """Return what opens the encrypted backups of an app, where nobody is there to be asked."""

    def ask(what):
        raise KeyMissingError(what=what, reason="nobody is here")

    return Keys(secrets.opening(app.configured, **named), ask)


def apply(path, name="latest", *, advance=lambda _bytes: None, **more):
    with opened(path, **more) as (app, repository):
        manifest = repository.find(name)
        return restoring(app, repository, manifest, advance=advance).apply()


def restoring(app, repository, manifest, *, replace=True, advance=lambda _bytes: None, **named):
    """Return a restore that is about to be done, of a backup or one of that name; ``named`` is what opens it."""
    manifest = repository.find(manifest) if isinstance(manifest, str) else manifest
    keys = keys_of(app, **named)
    return Restoring(app, repository, manifest, keys, timeout=app.timeout, replace=replace, advance=advance)


def undo(path):
    with opened(path) as (app, repository):
        return restoring(app, repository, latest_safety(app, repository)).apply()


def listed(path):
    with opened(path) as (_app, repository):
        return list_backups(repository, EVERY)


def verified(path, *names, deep=True):
    with opened(path) as (app, repository):
        return verify.verify(app, repository, names, deep=deep, keys=keys_of(app)).findings


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
    told = flashpoint_app.content(path)
    if "sqlite_sequence" in told:
        told["sqlite_sequence"] = [row for row in told["sqlite_sequence"] if row[0] != RECORD]
    record = [row for row in told.pop(RECORD, []) if "restore.apply" not in map(str, row)]
    return told | {RECORD: record}


def lose(path):
    """Take the database away, with all that stands beside it."""
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()


def fatten(path):
    """Leave the file more free pages than full ones, its rows behind them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table heap (text)")
        numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 600)"
        connection.execute(f"{numbers} insert into heap select hex(randomblob(1000)) from n")
        connection.execute("create table behind as select * from heap limit 100")
        connection.execute("drop table heap")


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
