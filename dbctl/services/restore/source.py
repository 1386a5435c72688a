"""Select and verify the members of a backup that a restore reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from dbctl.engines import registry
from dbctl.engines.contract import Readable
from dbctl.errors import (
    BackupCorruptError,
    BackupMissingError,
    KeyWrongError,
    NotSupportedError,
    ReadOnlyError,
)
from dbctl.files import age
from dbctl.services.app import App
from dbctl.services.backup import (
    DecryptionKeys,
    Manifest,
    Member,
    MemberReader,
    Repository,
    open_reader,
    partial_backup_error,
    verify,
)


def select_members(
    app: App,
    repository: Repository,
    manifest: Manifest,
    *,
    replaces_live: bool = True,
    allow_partial: bool = False,
) -> list[Member]:
    """Return the members of a backup for the selected databases.

    ``replaces_live``: whether they will replace the live databases. ``allow_partial``: whether the backup may contain
    only some tables.

    Raises:
        BackupMissingError: the backup does not contain that database.
        BackupPartialError: it contains only some tables.
        NotSupportedError: it contains only files of the database that are not a valid database.
        ReadOnlyError: the live database belongs to another program.
    """
    databases = [name for name in manifest.databases if app.only in ("", name)]
    if not databases:
        raise BackupMissingError(
            name=manifest.id, app=f"{app.name}/{app.only}", place=repository.store.location, suggestion=""
        )
    if manifest.kind == "partial" and not allow_partial:
        raise partial_backup_error(repository, manifest)
    members = []
    for name in databases:
        section = app.database(name)
        if replaces_live and section.mode == "read-only":
            owner = section.owner or "another program"
            raise ReadOnlyError(
                target=app.target(name),
                reason=f"it belongs to {owner}",
                hint=f"Nothing was changed. Its backup is in {repository.path(manifest)}; choose another database with --db.",
            )
        member = manifest.restorable_member(name)
        if member is None:
            raise NotSupportedError(
                feature=f"restoring {app.target(name)} from {manifest.id}",
                subject="its contents: files that are not a valid database",
                hint=f"Nothing was changed. The files are in {repository.path(manifest)}.",
            )
        members.append(member)
    return members


def estimate_size(app: App, repository: Repository, manifest: Manifest) -> int:
    """Return the approximate number of bytes to verify, back up and load; raises the errors of ``select_members``."""
    return sum(member.bytes + 2 * member.size for member in select_members(app, repository, manifest))


def label_member(member: Member) -> str:
    """Return the name of a member for messages: the retained database, or the file."""
    return member.facts.get("kept", member.file) if member.form == "kept" else member.file


def require_backup(repository: Repository, manifest: Manifest) -> None:
    """Check that a backup still exists; the caller holds the lock of the repository.

    Raises:
        BackupMissingError: another process has pruned it.
    """
    if repository.is_deleted(manifest):
        raise BackupMissingError(
            name=manifest.id, app=repository.app, place=repository.store.location, suggestion=""
        )


def verify_members(
    app: App,
    repository: Repository,
    manifest: Manifest,
    members: Sequence[Member],
    *,
    keys: DecryptionKeys,
    reader: MemberReader,
    advance: Callable[[int], None],
) -> None:
    """Verify members of a backup: checksums and content.

    Raises:
        BackupCorruptError: a member is damaged.
        KeyWrongError: the backup is encrypted for other identities.
    """
    findings = verify.find_problems(
        app,
        repository.store,
        manifest,
        deep=True,
        quick=True,
        keys=keys,
        advance=advance,
        databases=[member.database for member in members],
        reader=reader,
    )
    for finding in findings:
        if finding.code == KeyWrongError.code:
            raise KeyWrongError(file=f"backup {manifest.id}", reason=age.NOT_FOR_US)
        if finding.severity == "error":
            reason = finding.message.removeprefix(f"backup {manifest.id}").lstrip(", ")
            reason = f"it {reason}" if reason.startswith("is ") else reason
            raise BackupCorruptError(id=manifest.id, app=app.name, reason=reason)


def require_copyable(member: Member) -> None:
    """Check that a member can be read without changing it.

    Raises:
        NotSupportedError: it is a database that an earlier restore retained on its server.
    """
    if member.form == "kept":
        raise NotSupportedError(
            feature=f"reading {label_member(member)}",
            subject="a retained database, which has no other copy",
            hint="Nothing was changed. Restore it with: dbctl restore undo",
        )


@contextmanager
def open_content(
    app: App,
    repository: Repository,
    manifest: Manifest,
    member: Member,
    keys: DecryptionKeys,
    *,
    reader: MemberReader | None = None,
) -> Iterator[Readable]:
    """Yield a temporary database with the content of a member; delete it afterwards.

    ``reader``: the reader of the backup, if the caller has one.

    Raises:
        CorruptError: the member is damaged, or cannot be loaded.
        PrivilegeMissingError: the dump must be loaded, and the user may not create a database.
    """
    require_copyable(member)
    scratch_url, app_url, target = (
        app.configured.scratch,
        app.url(member.database),
        app.target(member.database),
    )
    # A partial dump requires the types of its original database.
    url = scratch_url if scratch_url and scratch_url.engine == app_url.engine and not member.only else app_url
    with ExitStack() as stack:
        reader = reader or stack.enter_context(open_reader(repository.store, keys))
        path = stack.enter_context(reader.open_decoded(manifest, member, target))
        copy = stack.enter_context(
            registry.load_engine(url.engine)
            .restore_target(url, target)
            .restored_copy(path, member.dump, timeout=app.timeout)
        )
        label = f"backup {manifest.id}"
        yield stack.enter_context(
            closing(registry.load_engine(copy.engine).open_for_reading(copy, label, timeout=app.timeout))
        )
