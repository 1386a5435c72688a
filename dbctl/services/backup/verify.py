"""Whether backups are what they were when they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import msgspec

from dbctl.engines import registry
from dbctl.engines.contract import Proof
from dbctl.engines.sql import differing
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
    ForeignDumpRefusedError,
    KeyInvalidError,
    KeyMissingError,
    KeyWrongError,
    NotSupportedError,
    PrivilegeMissingError,
    ReadOnlyError,
    RoomMissingError,
    ScratchFailedError,
    StorageFailedError,
    UnreachableError,
)
from dbctl.files import atomic, both
from dbctl.model import Finding, Findings, Severity, Value
from dbctl.services.app import App
from dbctl.services.backup import verification_record
from dbctl.services.backup.compare_live import against_live
from dbctl.services.backup.encryption import Keys, is_encrypted
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.reader import Unpacked, is_spare, unpacking
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Drill
from dbctl.stores import Store, digest
from dbctl.url import Url

LACKS = "backup-lacks-database"
SCHEMA_DIFFERS, FOREIGN, GONE = "schema-differs", "backup-foreign", "retained-gone"
#: Failures that tell of what a backup is looked at with, and nothing of the backup.
NOT_OF_IT = (
    BusyError,
    ClientMissingError,
    ClientOldError,
    DiskFullError,
    DriverMissingError,
    ForeignDumpRefusedError,
    KeyInvalidError,
    KeyMissingError,
    NotSupportedError,
    PrivilegeMissingError,
    ReadOnlyError,
    RoomMissingError,
    ScratchFailedError,
    StorageFailedError,
    UnreachableError,
)
BAD = "Do not restore from it; keep it only if there is no other."
OTHER_KEY = (
    "Its files are as they were. Older backups may want older keys: --identity FILE, --passphrase-file FILE."
)
NOT_UNDONE = (
    "Each restore drops what the one before it retained; dbctl restore undo goes back by one restore."
)
NONE = "Is it mounted? dbctl backup create makes one."


class Checked(Value, frozen=True, kw_only=True):
    """What a verification answers, and how it ends."""

    findings: Findings
    remarks: Sequence[str]  #: what could not be recorded
    unopened: int  #: encrypted backups that were not opened, since nobody asked for that

    @property
    def status(self) -> Exit:
        """Exit 4 where anything is wrong with a backup."""
        return Exit.UNSOUND if self.findings.unsound else Exit.OK


def size(repository: Repository, names: Sequence[str]) -> int:
    """Return how many bytes a verification of these, or of all, reads."""
    chosen = repository.find_all(names) if names else repository.manifests()[0]
    return sum(member.bytes for one in chosen for member in one.members)


def ready(repository: Repository, names: Sequence[str], keys: Keys) -> None:
    """Read what opens these backups, or all; a person may be asked for a passphrase.

    What turns out not to open one is told when that one is opened.

    Raises:
        KeyMissingError: one is encrypted, and nothing here could open it; and as ``Keys.ready``.
    """
    for one in repository.find_all(names) if names else repository.manifests()[0]:
        with suppress(KeyWrongError):
            keys.ready(repository.store, one)


def verify(
    app: App,
    repository: Repository,
    names: Sequence[str],
    *,
    deep: bool,
    keys: Keys,
    live: bool = False,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> Checked:
    """Read backups whole and compare them with their manifests.

    Args:
        app: the app.
        repository: its backups.
        names: which ones; none means every one, and also tells of those that were cut off.
        deep: whether each is opened, checked through and counted, too.
        keys: what opens those that are encrypted, made ready.
        live: whether each is compared with the running databases, too.
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
    gone = repository.gone(chosen)
    for manifest in chosen:
        only = [app.only] if app.only else []
        wrong = list(
            problems(app, repository.store, manifest, deep=deep, keys=keys, advance=advance, databases=only)
        )
        if wrong and repository.is_gone(manifest):
            remarks.append(f"{manifest.id} was pruned meanwhile")
            continue
        findings += wrong
        for left in manifest.failed:
            message = f"backup {manifest.id} lacks {left.database}: {left.reason}"
            target = app.target(left.database)
            findings.append(Finding(target=target, severity="warning", code=LACKS, message=message))
        if manifest.id in gone:
            message = f"backup {manifest.id}: {gone[manifest.id]}; nothing can be restored from it"
            findings.append(
                Finding(target=app.name, severity="warning", code=GONE, message=message, hint=NOT_UNDONE)
            )
        remarks += recorded(repository, manifest, wrong, whole=not only, deep=deep)
        findings += against_live(app, manifest) if live else ()
    return Checked(
        findings=Findings(checked=len(chosen) + (len(unread) if not names else 0), findings=findings),
        remarks=remarks,
        unopened=0 if deep else sum(map(is_encrypted, chosen)),
    )


def recorded(
    repository: Repository,
    manifest: Manifest,
    wrong: Sequence[Finding],
    *,
    whole: bool,
    deep: bool,
    drills: Mapping[str, Drill] = {},
) -> list[str]:
    """Record how a look at a backup ended, as ``backup_proof.record`` says; return what kept it from being recorded."""
    unopened = any(one.code == KeyWrongError.code for one in wrong)  # which says nothing of the backup
    errors = [one.message for one in wrong if one.severity == "error" and one.code != KeyWrongError.code]
    if any(one.code == FOREIGN for one in wrong):  # somebody else's, who may be pleased with it
        return []
    try:
        verification_record.record(
            repository.store, manifest.id, errors, whole=whole, deep=deep and not unopened, drills=drills
        )
    except DbctlError as error:  # a repository that may only be read can be verified all the same
        return [f"that {manifest.id} was verified could not be recorded: {error}"]
    return []


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
    keys: Keys,
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
        keys: what decrypts them.
        quick: leaves out of that whether indexes and tables agree.
        advance: told how many bytes more were read.
        databases: only the files of these; none means all.
        unpacked: what unpacks them; without one, each is gone again before the next.
    """
    if (manifest.app, manifest.profile) != (app.name, app.profile.name):
        message = f"backup {manifest.id} is one of {manifest.app} ({manifest.profile})"
        yield Finding(target=app.name, severity="error", code=FOREIGN, message=message, hint=BAD)
    sizes = store.files(manifest.id)
    for name in sizes.keys() - {one.file for one in manifest.members}:
        message = f"backup {manifest.id} holds {name}, which does not belong to it"
        yield Finding(target=app.name, severity="warning", code="file-unknown", message=message)
    for one in manifest.members:
        if databases and one.database not in databases:
            continue
        target = f"{manifest.app}/{one.database}" if one.database else manifest.app
        look = Look(app=app, one=one, deep=deep, quick=quick, keys=keys, unpacked=unpacked)
        for code, what in _of_member(store, manifest, look, sizes.get(one.file)):
            # What is exactly the file that was proven once stays good, however its schema is told today.
            severity: Severity = "warning" if code == SCHEMA_DIFFERS else "error"
            hint = OTHER_KEY if code == KeyWrongError.code else BAD if severity == "error" else ""
            message = f"backup {manifest.id}, {one.file}: {what}"
            yield Finding(target=target, severity=severity, code=code, message=message, hint=hint)
        advance(one.bytes)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How one file is looked at: ``problems`` says what ``deep`` and ``quick`` mean."""

    app: App
    one: Member
    deep: bool
    quick: bool
    keys: Keys
    unpacked: Unpacked | None


def _of_member(store: Store, manifest: Manifest, look: Look, size: int | None) -> Iterator[tuple[str, str]]:
    one = look.one
    if size is None:
        yield "file-missing", "it is missing, or no regular file"
        return
    if size != one.bytes:
        yield "file-changed", f"it has {size:,} bytes and had {one.bytes:,}"
        return
    try:
        if not look.deep or (one.form != "dump" and one.encryption == "none"):
            found, content = digest(store.read(manifest.id, one.file)).sha256, list[tuple[str, str]]()
        else:
            with ExitStack() as held:
                unpacked = look.unpacked or held.enter_context(unpacking(store, look.keys))
                found, content = _of_both(unpacked, manifest, look)
    except NOT_OF_IT:
        raise
    except DbctlError as error:
        yield error.code, str(error)
        return
    if found != one.sha256:
        yield "file-changed", "its content is not what was written (SHA-256)"
    else:
        yield from content


def _of_both(unpacked: Unpacked, manifest: Manifest, look: Look) -> tuple[str, list[tuple[str, str]]]:
    """Return the digest of a file as it rests, and what is wrong with its content."""
    one = look.one
    resting = unpacked.resting(manifest.id, one)
    if not is_spare(one):
        kept, content = both(
            lambda: digest(atomic.blocks(resting)), lambda: _of_content(unpacked, manifest, look)
        )
        return kept.sha256, content
    content = _of_content(unpacked, manifest, look)
    if unpacked.holds(manifest, one):  # which hashed it on the way
        return one.sha256, content
    return digest(atomic.blocks(resting)).sha256, content


def _of_content(unpacked: Unpacked, manifest: Manifest, look: Look) -> list[tuple[str, str]]:
    one, target = look.one, f"{manifest.app}/{look.one.database}"
    try:
        with unpacked.opened(manifest, one, target) as path:
            if one.form != "dump":
                return []  # what it holds, nobody but its owner could judge
            proof = registry.prove(
                one.engine, path, one.dump, target, quick=look.quick, room=partial(unpacked.room, one)
            )
            if not (look.quick or proof.problems or one.only or proof.schema):  # a server tells the rest
                url, timeout = server_for(look.app, one), look.app.timeout
                with registry.tried(one.engine, url, path, one.dump, target, timeout=timeout) as tried:
                    proof = tried.proof
    except NOT_OF_IT:
        raise
    except KeyWrongError as error:
        return [(error.code, f"its content cannot be opened: {error.facts['reason']}")]
    except DbctlError as error:
        return [(error.code, str(error))]
    return differences(proof, one)


def differences(proof: Proof, one: Member) -> list[tuple[str, str]]:
    """Return what is wrong with the content of a file, or is not as its manifest says: code and words."""
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
    if others := differing(proof.digests, one.digests):
        found.append(("content-differs", f"the rows of {', '.join(others)} are not those that were saved"))
    if proof.schema and one.schema and proof.schema != one.schema:
        found.append((SCHEMA_DIFFERS, "its schema is not the one that the manifest names"))
    return found


def server_for(app: App, one: Member) -> Url | None:
    """Return where a trial restore may go: where the configuration says, else where the database itself is."""
    if app.configured.scratch:
        return app.configured.scratch
    try:
        return app.url(one.database)
    except (DatabaseUnknownError, DatabaseUnsetError):
        return None
