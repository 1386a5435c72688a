"""Verify backups: compare their files with the manifest, and load them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import msgspec

from dbctl.engines import registry
from dbctl.engines.contract import DumpVerification
from dbctl.engines.sql import find_differences
from dbctl.errors import (
    BusyError,
    ClientMissingError,
    ClientOldError,
    DatabaseNotConfiguredError,
    DatabaseUnknownError,
    DbctlError,
    DiskFullError,
    DriverMissingError,
    Exit,
    ForeignDumpRefusedError,
    InsufficientSpaceError,
    KeyInvalidError,
    KeyMissingError,
    KeyWrongError,
    NotSupportedError,
    PrivilegeMissingError,
    ReadOnlyError,
    StorageFailedError,
    TempSpaceFailedError,
    UnreachableError,
)
from dbctl.files import atomic, run_in_parallel
from dbctl.model import Finding, Findings, Severity, Struct
from dbctl.services.app import App
from dbctl.services.backup import verification_record
from dbctl.services.backup.compare_live import compare_with_live
from dbctl.services.backup.encryption import DecryptionKeys, is_encrypted
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.reader import MemberReader, needs_decoding, open_reader
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Drill
from dbctl.stores import Store, hash_blocks
from dbctl.url import Url

DATABASE_OMITTED = "backup-lacks-database"
SCHEMA_DIFFERS, FOREIGN, DATABASE_LOST = "schema-differs", "backup-foreign", "retained-database-missing"
#: Errors of the environment, which do not indicate a problem of the backup.
ENVIRONMENT_ERRORS = (
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
    InsufficientSpaceError,
    TempSpaceFailedError,
    StorageFailedError,
    UnreachableError,
)
INVALID_HINT = "Do not restore it; keep it only if there is no other backup."
WRONG_KEY_HINT = "Its files match the manifest. Older backups may require older keys: --identity FILE, --passphrase-file FILE"
DATABASE_LOST_HINT = (
    "Each restore drops the database that the previous one retained; dbctl restore undo reverts one restore."
)
NO_BACKUP_HINT = "Check that it is mounted, or create a backup: dbctl backup create"


class VerifyResult(Struct, frozen=True, kw_only=True):
    """Result of a verification."""

    findings: Findings
    remarks: Sequence[str]  #: results that could not be recorded, and backups deleted concurrently
    not_decrypted: int  #: encrypted backups that were not decrypted, because ``deep`` was not set

    @property
    def status(self) -> Exit:
        """Exit code 4 if a backup has a problem."""
        return Exit.CHECK_FAILED if self.findings.has_errors else Exit.OK


def count_bytes(repository: Repository, names: Sequence[str]) -> int:
    """Return the number of bytes that a verification of these backups, or of all, reads."""
    selected = repository.find_all(names) if names else repository.manifests()[0]
    return sum(member.bytes for manifest in selected for member in manifest.members)


def prepare_keys(repository: Repository, names: Sequence[str], keys: DecryptionKeys) -> None:
    """Read the keys of these backups, or of all; may prompt for a passphrase.

    A wrong key is reported later, when its backup is decrypted.

    Raises:
        KeyMissingError: no key for an encrypted backup; other errors as ``DecryptionKeys.prepare``.
    """
    for manifest in repository.find_all(names) if names else repository.manifests()[0]:
        with suppress(KeyWrongError):
            keys.prepare(repository.store, manifest)


def verify(
    app: App,
    repository: Repository,
    names: Sequence[str],
    *,
    deep: bool,
    keys: DecryptionKeys,
    live: bool = False,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> VerifyResult:
    """Read backups completely and compare them with their manifests.

    Args:
        app: the app.
        repository: its backups.
        names: their ids; empty: all backups, and a report of incomplete ones.
        deep: whether to load each backup and check its content.
        keys: for encrypted backups, after ``prepare_keys``.
        live: whether to compare each backup with the live databases.
        advance: receives the number of bytes read since the last call.

    Raises:
        BackupMissingError, BackupCorruptError: a named backup does not exist, or its manifest cannot be read.
    """
    manifests, unreadable = repository.manifests()
    selected = repository.find_all(names) if names else manifests
    findings = list[Finding]()
    if not (manifests or unreadable):
        message = f"no backup in {repository.store.location}"
        findings.append(
            Finding(target=app.name, severity="error", code="no-backup", message=message, hint=NO_BACKUP_HINT)
        )
    if not names:
        findings += _find_without_manifest(app, repository, unreadable)
    remarks = list[str]()
    lost_databases = repository.find_lost_databases(selected)
    for manifest in selected:
        databases = [app.only] if app.only else []
        backup_findings = list(
            find_problems(
                app,
                repository.store,
                manifest,
                deep=deep,
                keys=keys,
                advance=advance,
                databases=databases,
            )
        )
        if backup_findings and repository.is_deleted(manifest):
            remarks.append(f"{manifest.id} was deleted during the verification")
            continue
        findings += backup_findings
        for omitted in manifest.failed:
            message = f"backup {manifest.id} lacks {omitted.database}: {omitted.reason}"
            target = app.target(omitted.database)
            findings.append(
                Finding(target=target, severity="warning", code=DATABASE_OMITTED, message=message)
            )
        if manifest.id in lost_databases:
            message = f"backup {manifest.id}: {lost_databases[manifest.id]}; it cannot be restored"
            findings.append(
                Finding(
                    target=app.name,
                    severity="warning",
                    code=DATABASE_LOST,
                    message=message,
                    hint=DATABASE_LOST_HINT,
                )
            )
        remarks += record_result(repository, manifest, backup_findings, all_files=not databases, deep=deep)
        findings += compare_with_live(app, manifest) if live else ()
    return VerifyResult(
        findings=Findings(checked=len(selected) + (len(unreadable) if not names else 0), findings=findings),
        remarks=remarks,
        not_decrypted=0 if deep else sum(map(is_encrypted, selected)),
    )


def record_result(
    repository: Repository,
    manifest: Manifest,
    findings: Sequence[Finding],
    *,
    all_files: bool,
    deep: bool,
    drills: Mapping[str, Drill] = {},
) -> list[str]:
    """Record the result of a verification; return messages about errors while recording."""
    # A wrong key is not a problem of the backup.
    has_wrong_key = any(finding.code == KeyWrongError.code for finding in findings)
    errors = [
        finding.message
        for finding in findings
        if finding.severity == "error" and finding.code != KeyWrongError.code
    ]
    if any(finding.code == FOREIGN for finding in findings):  # valid for another app
        return []
    try:
        verification_record.record(
            repository.store,
            manifest.id,
            errors,
            all_files=all_files,
            deep=deep and not has_wrong_key,
            drills=drills,
        )
    except DbctlError as error:  # a read-only repository can still be verified
        return [f"the verification of {manifest.id} cannot be recorded: {error}"]
    return []


def _find_without_manifest(app: App, repository: Repository, unreadable: dict[str, str]) -> Iterator[Finding]:
    for folder, reason in unreadable.items():
        yield Finding(
            target=app.name,
            severity="error",
            code="manifest-unreadable",
            message=f"backup {folder}: its manifest: {reason}",
            hint=INVALID_HINT,
        )
    for folder in repository.incomplete():
        yield Finding(
            target=app.name,
            severity="info",
            code="backup-incomplete",
            message=f"{folder} was interrupted, or is being created",
            hint="It is not a backup. Remove it with: dbctl backup prune",
        )


def find_problems(
    app: App,
    store: Store,
    manifest: Manifest,
    *,
    deep: bool,
    keys: DecryptionKeys,
    quick: bool = False,
    advance: Callable[[int], None] = lambda _bytes: None,
    databases: Sequence[str] = (),
    reader: MemberReader | None = None,
) -> Iterator[Finding]:
    """Yield the problems of one backup.

    Args:
        app: the app.
        store: of the backup.
        manifest: of the backup.
        deep: whether to load its dumps and check their content.
        keys: for decryption.
        quick: whether to skip the comparison of indexes with tables.
        advance: receives the number of bytes read since the last call.
        databases: only the files of these; empty: all files.
        reader: decodes the files; None: each decoded file is deleted before the next.
    """
    if (manifest.app, manifest.profile) != (app.name, app.profile.name):
        message = f"backup {manifest.id} belongs to {manifest.app} ({manifest.profile})"
        yield Finding(target=app.name, severity="error", code=FOREIGN, message=message, hint=INVALID_HINT)
    sizes = store.list_files(manifest.id)
    for name in sizes.keys() - {member.file for member in manifest.members}:
        message = f"backup {manifest.id} contains an unknown file {name}"
        yield Finding(target=app.name, severity="warning", code="file-unknown", message=message)
    for member in manifest.members:
        if databases and member.database not in databases:
            continue
        target = f"{manifest.app}/{member.database}" if member.database else manifest.app
        check = MemberCheck(app=app, member=member, deep=deep, quick=quick, keys=keys, reader=reader)
        for code, description in _check_member(store, manifest, check, sizes.get(member.file)):
            # A file with the recorded checksum remains valid if only the computation of the schema changed.
            severity: Severity = "warning" if code == SCHEMA_DIFFERS else "error"
            hint = (
                WRONG_KEY_HINT if code == KeyWrongError.code else INVALID_HINT if severity == "error" else ""
            )
            message = f"backup {manifest.id}, {member.file}: {description}"
            yield Finding(target=target, severity=severity, code=code, message=message, hint=hint)
        advance(member.bytes)


class MemberCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The verification of one file; ``find_problems`` documents ``deep`` and ``quick``."""

    app: App
    member: Member
    deep: bool
    quick: bool
    keys: DecryptionKeys
    reader: MemberReader | None


def _check_member(
    store: Store, manifest: Manifest, check: MemberCheck, size: int | None
) -> Iterator[tuple[str, str]]:
    member = check.member
    if size is None:
        yield "file-missing", "it is missing, or no regular file"
        return
    if size != member.bytes:
        yield "file-changed", f"it has {size:,} bytes instead of {member.bytes:,}"
        return
    try:
        if not check.deep or (member.form != "dump" and member.encryption == "none"):
            sha256, content_problems = (
                hash_blocks(store.read(manifest.id, member.file)).sha256,
                list[tuple[str, str]](),
            )
        else:
            with ExitStack() as stack:
                reader = check.reader or stack.enter_context(open_reader(store, check.keys))
                sha256, content_problems = _check_file_and_content(reader, manifest, check)
    except ENVIRONMENT_ERRORS:
        raise
    except DbctlError as error:
        yield error.code, str(error)
        return
    if sha256 != member.sha256:
        yield "file-changed", "its SHA-256 does not match the manifest"
    else:
        yield from content_problems


def _check_file_and_content(
    reader: MemberReader, manifest: Manifest, check: MemberCheck
) -> tuple[str, list[tuple[str, str]]]:
    """Return the SHA-256 of a file as stored, and the problems of its content."""
    member = check.member
    stored_path = reader.stored_path(manifest.id, member)
    if not needs_decoding(member):
        stored_digest, content_problems = run_in_parallel(
            lambda: hash_blocks(atomic.read_blocks(stored_path)),
            lambda: _check_content(reader, manifest, check),
        )
        return stored_digest.sha256, content_problems
    content_problems = _check_content(reader, manifest, check)
    if reader.is_decoded(manifest, member):  # decoding has compared the SHA-256
        return member.sha256, content_problems
    return hash_blocks(atomic.read_blocks(stored_path)).sha256, content_problems


def _check_content(reader: MemberReader, manifest: Manifest, check: MemberCheck) -> list[tuple[str, str]]:
    member, target = check.member, f"{manifest.app}/{check.member.database}"
    try:
        with reader.open_decoded(manifest, member, target) as path:
            if member.form != "dump":
                return []  # other content has no checks
            verification = registry.load_engine(member.engine).verify_dump(
                path, member.dump, target, quick=check.quick, make_temp_dir=partial(reader.temp_dir, member)
            )
            # Only a server can check the rest.
            if not (check.quick or verification.problems or member.only or verification.schema):
                url, timeout = trial_server(check.app, member), check.app.timeout
                with registry.load_engine(member.engine).trial_restore(
                    url, path, member.dump, target, timeout=timeout
                ) as trial:
                    verification = trial.verification
    except ENVIRONMENT_ERRORS:
        raise
    except KeyWrongError as error:
        return [(error.code, f"its content cannot be decrypted: {error.context['reason']}")]
    except DbctlError as error:
        return [(error.code, str(error))]
    return compare_with_manifest(verification, member)


def compare_with_manifest(verification: DumpVerification, member: Member) -> list[tuple[str, str]]:
    """Return the problems of the content of a file, and its differences from the manifest: codes and messages."""
    if verification.problems:
        return [("corrupt", line) for line in verification.problems]
    problems = []
    if verification.tables != member.rows:
        tables = [
            name
            for name in sorted(verification.tables.keys() | member.rows.keys())
            if verification.tables.get(name) != member.rows.get(name)
        ]
        problems.append(("rows-differ", f"row counts differ from the manifest: {', '.join(tables)}"))
    if changed_tables := find_differences(verification.digests, member.digests):
        problems.append(("content-differs", f"rows differ from the saved rows: {', '.join(changed_tables)}"))
    if verification.schema and member.schema and verification.schema != member.schema:
        problems.append((SCHEMA_DIFFERS, "its schema differs from the manifest"))
    return problems


def trial_server(app: App, member: Member) -> Url | None:
    """Return the server for a trial restore: the configured scratch server, otherwise that of the database."""
    if app.configured.scratch:
        return app.configured.scratch
    try:
        return app.url(member.database)
    except (DatabaseUnknownError, DatabaseNotConfiguredError):
        return None
