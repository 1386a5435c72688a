"""Whether backups are what they were when they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import msgspec

from dbctl.engines import registry
from dbctl.errors import (
    BusyError,
    ClientMissingError,
    ClientOldError,
    DatabaseUnknownError,
    DatabaseUnsetError,
    DbctlError,
    DiskFullError,
    DriverMissingError,
    Exit,
    NotSupportedError,
    PrivilegeMissingError,
    ReadOnlyError,
    RoomMissingError,
    UnreachableError,
)
from dbctl.model import Finding, Findings, Severity, Value, now
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest, Member
from dbctl.services.backup_unpacked import Unpacked, unpacking
from dbctl.services.backups import Repository, Verified
from dbctl.services.beside import both
from dbctl.stores.base import Store
from dbctl.url import Url

SCHEMA_DIFFERS = "schema-differs"
#: Failures that tell of what a backup is looked at with, and nothing of the backup.
NOT_OF_IT = (
    BusyError,
    ClientMissingError,
    ClientOldError,
    DiskFullError,
    DriverMissingError,
    NotSupportedError,
    PrivilegeMissingError,
    ReadOnlyError,
    RoomMissingError,
    UnreachableError,
)
BAD = "Do not restore from it; keep it only if there is no other."


NONE = "Is it mounted? dbctl backup create makes one."


class Checked(Value, frozen=True, kw_only=True):
    """What a verification answers, and how it ends."""

    findings: Findings
    remarks: Sequence[str]  #: what could not be recorded

    @property
    def status(self) -> Exit:
        """Exit 4 where anything is wrong with a backup."""
        return Exit.UNSOUND if self.findings.unsound else Exit.OK


def size(repository: Repository, names: Sequence[str]) -> int:
    """Return how many bytes a verification of these, or of all, reads."""
    chosen = repository.find_all(names) if names else repository.manifests()[0]
    return sum(member.bytes for one in chosen for member in one.members)


def verify(
    app: App,
    repository: Repository,
    names: Sequence[str],
    *,
    deep: bool,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> Checked:
    """Read backups whole and compare them with their manifests.

    Args:
        app: the app.
        repository: its backups.
        names: which ones; none means every one, and also tells of those that were cut off.
        deep: whether each is opened, checked through and counted, too.
        advance: told how many bytes more were read.

    Raises:
        BackupMissingError, BackupUnsoundError: one that was named is not there, or has no manifest that can be read.
    """
    found, unread = repository.manifests()
    chosen = repository.find_all(names) if names else found
    findings = list[Finding]()
    if not (found or unread):
        message = f"there is no backup in {repository.store.place}"
        findings.append(
            Finding(target=app.name, severity="error", code="no-backup", message=message, hint=NONE)
        )
    if not names:
        findings += _without_manifest(app, repository, unread)
    remarks = list[str]()
    for manifest in chosen:
        only = [app.only] if app.only else []
        wrong = list(problems(app, repository.store, manifest, deep=deep, advance=advance, databases=only))
        if wrong and repository.is_gone(manifest):
            remarks.append(f"{manifest.id} was pruned meanwhile")
            continue
        findings += wrong
        if not (only or any(one.severity == "error" for one in wrong)):
            try:
                repository.store.note(manifest.id, msgspec.json.encode(Verified(at=now())).decode())
            except DbctlError as error:  # a repository that may only be read can be verified all the same
                remarks.append(f"that {manifest.id} was verified could not be recorded: {error}")
    return Checked(
        findings=Findings(checked=len(chosen) + (len(unread) if not names else 0), findings=findings),
        remarks=remarks,
    )


def _without_manifest(app: App, repository: Repository, unread: dict[str, str]) -> Iterator[Finding]:
    for folder, reason in unread.items():
        yield Finding(
            target=app.name,
            severity="error",
            code="manifest-unread",
            message=f"backup {folder}: its manifest: {reason}",
            hint=BAD,
        )
    for folder in repository.incomplete():
        yield Finding(
            target=app.name,
            severity="info",
            code="backup-incomplete",
            message=f"{folder} was cut off, or is being made now",
            hint="It is no backup; dbctl backup prune removes it.",
        )


def problems(
    app: App,
    store: Store,
    manifest: Manifest,
    *,
    deep: bool,
    quick: bool = False,
    advance: Callable[[int], None] = lambda _bytes: None,
    databases: Sequence[str] = (),
    unpacked: Unpacked | None = None,
) -> Iterator[Finding]:
    """Yield what is wrong with one backup.

    Args:
        app: the app.
        store: where it rests.
        manifest: of the backup.
        deep: whether its dumps are opened, checked through and counted.
        quick: leaves out of that whether indexes and tables agree.
        advance: told how many bytes more were read.
        databases: only the files of these; none means all.
        unpacked: what unpacks them; without one, each is gone again before the next.
    """
    if (manifest.app, manifest.profile) != (app.name, app.profile.name):
        message = f"backup {manifest.id} is one of {manifest.app} ({manifest.profile})"
        yield Finding(target=app.name, severity="error", code="backup-foreign", message=message, hint=BAD)
    sizes = store.files(manifest.id)
    for name in sizes.keys() - {one.file for one in manifest.members}:
        message = f"backup {manifest.id} holds {name}, which does not belong to it"
        yield Finding(target=app.name, severity="warning", code="file-unknown", message=message)
    for one in manifest.members:
        if databases and one.database not in databases:
            continue
        target = f"{manifest.app}/{one.database}" if one.database else manifest.app
        look = Look(app=app, one=one, deep=deep, quick=quick, unpacked=unpacked)
        for code, what in _of_member(store, manifest, look, sizes.get(one.file)):
            # What is exactly the file that was proven once stays good, however its schema is told today.
            severity: Severity = "warning" if code == SCHEMA_DIFFERS else "error"
            hint = BAD if severity == "error" else ""
            message = f"backup {manifest.id}, {one.file}: {what}"
            yield Finding(target=target, severity=severity, code=code, message=message, hint=hint)
        advance(one.bytes)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How one file is looked at: ``problems`` says what ``deep`` and ``quick`` mean."""

    app: App
    one: Member
    deep: bool
    quick: bool
    unpacked: Unpacked | None


def _of_member(store: Store, manifest: Manifest, look: Look, size: int | None) -> Iterator[tuple[str, str]]:
    one = look.one
    if size is None:
        yield "file-missing", "it is missing"
        return
    if size != one.bytes:
        yield "file-changed", f"it has {size:,} bytes and had {one.bytes:,}"
        return
    try:
        if not look.deep or one.form != "dump":
            kept, content = store.digest(manifest.id, one.file), list[tuple[str, str]]()
        else:
            kept, content = both(
                lambda: store.digest(manifest.id, one.file),
                lambda: _of_content(store, manifest, look),
            )
    except NOT_OF_IT:
        raise
    except DbctlError as error:
        yield error.code, str(error)
        return
    if kept.sha256 != one.sha256:
        yield "file-changed", "its content is not what was written (SHA-256)"
    else:
        yield from content


def _of_content(store: Store, manifest: Manifest, look: Look) -> list[tuple[str, str]]:
    one, target = look.one, f"{manifest.app}/{look.one.database}"
    try:
        with ExitStack() as held:
            unpacked = look.unpacked or held.enter_context(unpacking(store))
            path = held.enter_context(unpacked.opened(manifest.id, one, target))
            proof = registry.prove(one.engine, path, one.dump, target, quick=look.quick)
            if not (look.quick or proof.problems or one.only):
                url, timeout = _server(look.app, one), look.app.timeout
                proof = registry.trial(one.engine, url, path, one.dump, target, timeout=timeout) or proof
    except NOT_OF_IT:
        raise
    except DbctlError as error:
        return [(error.code, str(error))]
    if proof.problems:
        return [("corrupt", line) for line in proof.problems]
    found = []
    if proof.tables != one.rows:
        tables = [
            name
            for name in sorted(proof.tables.keys() | one.rows.keys())
            if proof.tables.get(name) != one.rows.get(name)
        ]
        found.append(("rows-differ", f"the rows of {', '.join(tables)} are not as many as the manifest says"))
    if proof.schema and proof.schema != one.schema:
        found.append((SCHEMA_DIFFERS, "its schema is not the one that the manifest names"))
    return found


def _server(app: App, one: Member) -> Url | None:
    """Return where a trial restore may go: where the configuration says, else where the database itself is."""
    if app.configured.scratch:
        return app.configured.scratch
    try:
        return app.url(one.database)
    except (DatabaseUnknownError, DatabaseUnsetError):
        return None
