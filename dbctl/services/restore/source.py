"""What a restore brings back: chosen from a backup, and proven."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from dbctl.engines import registry
from dbctl.engines.contract import Readable
from dbctl.errors import (
    BackupMissingError,
    BackupUnsoundError,
    KeyWrongError,
    NotSupportedError,
    ReadOnlyError,
)
from dbctl.files import age
from dbctl.services.app import App
from dbctl.services.backup import Keys, Manifest, Member, Repository, Unpacked, partial, unpacking, verify


def members(
    app: App, repository: Repository, manifest: Manifest, *, live: bool = True, part: bool = False
) -> list[Member]:
    """Return the files of a backup that are meant, and may be restored: over what is ``live``, or beside it.

    ``part``: whether a file may hold only some tables.

    Raises:
        BackupMissingError: the backup does not hold that database.
        BackupPartialError: it holds only some tables.
        NotSupportedError: it holds no more of it than files that are no database.
        ReadOnlyError: what is live belongs to another program.
    """
    chosen = [name for name in manifest.databases if app.only in ("", name)]
    if not chosen:
        raise BackupMissingError(
            name=manifest.id, app=f"{app.name}/{app.only}", place=repository.store.place, near=""
        )
    if manifest.kind == "partial" and not part:
        raise partial(repository, manifest)
    found = []
    for name in chosen:
        told = app.database(name)
        if live and told.mode == "read-only":
            owner = told.owner or "another program"
            raise ReadOnlyError(
                target=app.target(name),
                reason=f"it belongs to {owner}",
                instead=f"Nothing was changed. Its copy is in {repository.path(manifest)}; --db restores another.",
            )
        one = manifest.member(name)
        if one is None:
            raise NotSupportedError(
                what=f"restoring {app.target(name)} from {manifest.id}",
                by="what it holds: files that were no sound database",
                instead=f"Nothing was changed. They are in {repository.path(manifest)}, as they were.",
            )
        found.append(one)
    return found


def size(app: App, repository: Repository, manifest: Manifest) -> int:
    """Return how many bytes a restore reads and writes, about: it proves, keeps and loads; raises as ``members``."""
    return sum(one.bytes + 2 * one.size for one in members(app, repository, manifest))


def told(one: Member) -> str:
    """Return what a person calls that which is brought back."""
    return one.facts.get("kept", one.file) if one.form == "kept" else one.file


def want_there(repository: Repository, manifest: Manifest) -> None:
    """Look whether a backup is still there, once nobody else can prune it.

    Raises:
        BackupMissingError: another dbctl has pruned it.
    """
    if repository.is_gone(manifest):
        raise BackupMissingError(name=manifest.id, app=repository.app, place=repository.store.place, near="")


def prove(
    app: App,
    repository: Repository,
    manifest: Manifest,
    chosen: Sequence[Member],
    *,
    keys: Keys,
    unpacked: Unpacked,
    advance: Callable[[int], None],
) -> None:
    """Look whether these files of a backup are what was written, and sound.

    Raises:
        BackupUnsoundError: one of them is not.
    """
    wrong = verify.problems(
        app,
        repository.store,
        manifest,
        deep=True,
        quick=True,
        keys=keys,
        advance=advance,
        databases=[one.database for one in chosen],
        unpacked=unpacked,
    )
    for one in wrong:
        if one.code == KeyWrongError.code:
            raise KeyWrongError(file=f"backup {manifest.id}", reason=age.NOT_FOR_US)
        if one.severity == "error":
            reason = one.message.removeprefix(f"backup {manifest.id}").lstrip(", ")
            reason = f"it {reason}" if reason.startswith("is ") else reason
            raise BackupUnsoundError(id=manifest.id, app=app.name, reason=reason)


def want_copyable(one: Member) -> None:
    """Look whether its engine can read a file of a backup without changing what it tells of.

    Raises:
        NotSupportedError: it is a database that an earlier restore kept on its server.
    """
    if one.form == "kept":
        raise NotSupportedError(
            what=f"reading {told(one)}",
            by="what an earlier restore kept on its server, which is there but once",
            instead="Nothing was changed. dbctl restore undo goes back to it.",
        )


@contextmanager
def content(
    app: App,
    repository: Repository,
    manifest: Manifest,
    one: Member,
    keys: Keys,
    *,
    unpacked: Unpacked | None = None,
) -> Iterator[Readable]:
    """Give a database that holds what a file of a backup does, and that nobody else knows; it is gone at the end.

    ``unpacked``: what has unpacked the file already, mayhap.

    Raises:
        CorruptError: the file is not what was packed, or cannot be loaded.
        PrivilegeMissingError: it has to be loaded, and this user may make no database for that.
    """
    want_copyable(one)
    scratch, own, target = app.configured.scratch, app.url(one.database), app.target(one.database)
    # What is a part wants the types of the database that it is of.
    url = scratch if scratch and scratch.engine == own.engine and not one.only else own
    with ExitStack() as held:
        unpacked = unpacked or held.enter_context(unpacking(repository.store, keys))
        path = held.enter_context(unpacked.opened(manifest, one, target))
        copy = held.enter_context(registry.copied(url, path, target, one.dump, timeout=app.timeout))
        named = f"backup {manifest.id}"
        yield held.enter_context(closing(registry.open_for_reading(copy, named, timeout=app.timeout)))
