"""Compare the files of backups with their manifests, load them, and record the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from dbctl import progress
from dbctl.engines import registry
from dbctl.engines.contract.dumps import DumpVerification, LoadRequest, RolePolicy
from dbctl.engines.contract.engine import VerifyOptions
from dbctl.engines.sql.checks import find_differences, find_differing_counts
from dbctl.errors.backup import (
    ForeignDumpRefusedError,
    KeyInvalidError,
    KeyWrongError,
    RepositoryFailedError,
    StorageFailedError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ClientMissingError,
    ClientOldError,
    CorruptError,
    DiskFullError,
    FileFailedError,
    InsufficientSpaceError,
    PrivilegeMissingError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.databases import TempSpaceFailedError
from dbctl.errors.operations import TooManyProcessesError
from dbctl.errors.usage import (
    DatabaseNotConfiguredError,
    DatabaseUnknownError,
    DriverMissingError,
    KeyMissingError,
    NotSupportedError,
)
from dbctl.files.atomic import hash_blocks
from dbctl.files.temp import run_in_parallel
from dbctl.model import Finding, Severity
from dbctl.services.app.app import App
from dbctl.services.backup import deltas, verification_record
from dbctl.services.backup.encryption import DecryptionKeys, is_encrypted
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import MemberReader, hash_file, needs_decoding, open_reader
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Drill
from dbctl.url import Url

#: A verification needs no roles of the server that loads a dump.
WITHOUT_ROLES = RolePolicy(missing="skip")
SCHEMA_DIFFERS, FOREIGN = "schema-differs", "backup-foreign"
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
    TooManyProcessesError,
    UnreachableError,
)
INVALID_HINT = "Do not restore it; keep it only if there is no other backup."
_FILE_PROBLEMS = {"file-missing", "file-changed"}
#: Problems of a file that cannot be read now, but perhaps later.
UNREADABLE = {FileFailedError.code, RepositoryFailedError.code}
UNREADABLE_HINT = "It was not read, so it may be valid. Check its disk, its owner and its mode."
WRONG_KEY_HINT = "Its files match the manifest. Older backups may require older keys: --identity FILE, --passphrase-file FILE"


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
    # A wrong key is not a problem of the backup, nor is a file that cannot be read.
    has_wrong_key = any(finding.code == KeyWrongError.code for finding in findings)
    is_read = not any(finding.code in UNREADABLE for finding in findings)
    others = {KeyWrongError.code, *UNREADABLE}
    errors = [finding for finding in findings if finding.severity == "error" and finding.code not in others]
    # Comparing checksums detects these problems, too.
    is_loaded = deep and not (errors and all(finding.code in _FILE_PROBLEMS for finding in errors))
    if any(finding.code == FOREIGN for finding in findings):  # valid for another app
        return []
    try:
        verification_record.record(
            repository.store,
            manifest.id,
            [finding.message for finding in errors],
            all_files=all_files and is_read,
            deep=is_loaded and not has_wrong_key,
            drills=drills if is_read else {},
        )
    except DbctlError as error:  # a read-only repository can still be verified
        return [f"the verification of {manifest.id} cannot be recorded: {error}"]
    return []


class BackupVerifier:
    """Compares the files of backups with their manifests."""

    def __init__(
        self,
        repository: Repository,
        keys: DecryptionKeys,
        *,
        deep: bool,
        quick: bool = False,
        reader: MemberReader | None = None,
    ) -> None:
        """Set the options: ``deep`` loads dumps and checks their content, ``quick`` skips the comparison of indexes with tables.

        Without a ``reader``, each decoded file is deleted before the next.
        """
        self._app, self._store, self._keys = repository.app, repository.store, keys
        self._deep, self._quick, self._reader = deep, quick, reader
        self._hashes = dict[tuple[str, str], str]()  #: of files as stored; a base may be that of many backups
        #: of files to which later backups refer
        self._problems = dict[tuple[str, str], list[tuple[str, str]]]()

    def find_problems(self, manifest: Manifest, databases: Sequence[str] = ()) -> Iterator[Finding]:
        """Yield the problems of one backup, or only of its files of ``databases``.

        Another process may have encrypted it or its bases again: after a problem, the present files are compared with the present manifest.
        """
        problems = list(self._compare(manifest, databases))
        if is_encrypted(manifest) and any(problem.code != KeyWrongError.code for problem in problems):
            self._hashes.clear()
            self._problems.clear()
            problems = list(self._compare(deltas.reread(self._store, manifest), databases))
        yield from problems

    def _compare(self, manifest: Manifest, databases: Sequence[str]) -> Iterator[Finding]:
        app = self._app
        if (manifest.app, manifest.profile) != (app.name, app.profile.name):
            message = f"backup {manifest.id} belongs to {manifest.app} ({manifest.profile})"
            yield Finding(target=app.name, severity="error", code=FOREIGN, message=message, hint=INVALID_HINT)
        names = set[str]()
        with suppress(RepositoryFailedError):  # a problem of each of its files
            names.update(self._store.list_files(manifest.id))
        for name in names - {member.file for member in manifest.files}:
            message = f"backup {manifest.id} contains an unknown file {name}"
            yield Finding(target=app.name, severity="warning", code="file-unknown", message=message)
        for member in manifest.members:
            if databases and member.database not in databases:
                continue
            target = f"{manifest.app}/{member.database}" if member.database else manifest.app
            for code, description in self._check_once(manifest, member, target):
                yield describe_problem(target, manifest, member, code, description)
            progress.advance(0 if member.stored_in else member.bytes)

    def _check_once(self, manifest: Manifest, member: Member, target: str) -> Sequence[tuple[str, str]]:
        """Return the problems of a member; a file to which several refer is checked once."""
        try:
            manifest, member = deltas.read_holder(self._store, manifest, member, target)
            key = (manifest.id, member.file)
            if key not in self._problems:
                size = self._store.list_files(manifest.id).get(member.file)
                self._problems[key] = list(self._check_member(manifest, member, size))
        except (CorruptError, RepositoryFailedError) as error:
            return [(error.code, str(error))]
        return self._problems[key]

    def _check_member(
        self, manifest: Manifest, member: Member, size: int | None
    ) -> Iterator[tuple[str, str]]:
        if size is None:
            yield "file-missing", "it is missing, or no regular file"
            return
        if size != member.bytes:
            yield "file-changed", f"it has {size:,} bytes instead of {member.bytes:,}"
            return
        content_problems = list[tuple[str, str]]()
        try:
            if not self._deep or (member.form != "dump" and member.encryption == "none"):
                sha256 = self._hash(manifest.id, member.file)
                if member.delta:
                    target = f"{manifest.app}/{member.database}"
                    base_manifest, base = deltas.read_base(self._store, member, member.delta, target)
                    if self._hash(base_manifest.id, base.file) != base.sha256:
                        yield "base-damaged", f"its base is damaged: {base.file} of {base_manifest.id}"
            else:
                with ExitStack() as stack:
                    reader = self._reader or stack.enter_context(open_reader(self._store, self._keys))
                    sha256, content_problems = self._check_file_and_content(reader, manifest, member)
        except ENVIRONMENT_ERRORS:
            raise
        except DbctlError as error:
            yield error.code, str(error)
            return
        if sha256 != member.sha256:
            yield "file-changed", "its SHA-256 does not match the manifest"
        else:
            yield from content_problems

    def _hash(self, folder: str, file: str) -> str:
        """Return the SHA-256 of a file as stored."""
        if (folder, file) not in self._hashes:
            self._hashes[folder, file] = hash_blocks(self._store.read(folder, file)).sha256
        return self._hashes[folder, file]

    def _check_file_and_content(
        self, reader: MemberReader, manifest: Manifest, member: Member
    ) -> tuple[str, list[tuple[str, str]]]:
        """Return the SHA-256 of a file as stored, and the problems of its content."""
        stored_path = reader.stored_path(manifest.id, member)
        if not needs_decoding(member):
            return run_in_parallel(
                lambda: hash_file(stored_path), lambda: self._check_content(reader, manifest, member)
            )
        content_problems = self._check_content(reader, manifest, member)
        if reader.is_decoded(manifest, member):  # decoding has compared the SHA-256
            return member.sha256, content_problems
        return hash_file(stored_path), content_problems

    def _check_content(
        self, reader: MemberReader, manifest: Manifest, member: Member
    ) -> list[tuple[str, str]]:
        target = f"{manifest.app}/{member.database}"
        try:
            path = reader.decode(manifest, member, target)
            if member.form != "dump":
                return []  # other content has no checks
            engine, dump = registry.load_engine(member.engine), member.dump
            server, temp_dir = trial_server(self._app, member), partial(reader.temp_dir, member)
            options = VerifyOptions(quick=self._quick, make_temp_dir=temp_dir, server=server)
            verification = engine.verify_dump(path, dump, target, options)
            # Only a server can check the rest.
            if not (self._quick or verification.problems or member.only or verification.schema):
                request = LoadRequest(path=path, dump=dump, timeout=self._app.timeout, roles=WITHOUT_ROLES)
                with engine.trial_restore(server, request, target) as trial:
                    verification = trial.verification
        except ENVIRONMENT_ERRORS:
            raise
        except KeyWrongError as error:
            return [(error.code, f"its content cannot be decrypted: {error.context['reason']}")]
        except DbctlError as error:
            return [(error.code, str(error))]
        return compare_with_manifest(verification, member)


def describe_problem(target: str, manifest: Manifest, member: Member, code: str, description: str) -> Finding:
    """Return the finding about a problem of a file of a backup."""
    # A file with the recorded checksum remains valid if only the computation of the schema changed.
    severity: Severity = "warning" if code == SCHEMA_DIFFERS else "error"
    hint = INVALID_HINT if severity == "error" else ""
    hint = WRONG_KEY_HINT if code == KeyWrongError.code else UNREADABLE_HINT if code in UNREADABLE else hint
    file = f"{member.file} in {member.stored_in}" if member.stored_in else member.file
    return Finding(target, severity, code, f"backup {manifest.id}, {file}: {description}", hint)


def compare_with_manifest(verification: DumpVerification, member: Member) -> list[tuple[str, str]]:
    """Return the problems of the content of a file, and its differences from the manifest: codes and messages."""
    if verification.problems:
        return [("corrupt", line) for line in verification.problems]
    problems = []
    # Some dumps do not mention the rows of a table that has none.
    rows = {**dict.fromkeys(member.schema_only, 0), **verification.tables}
    if tables := find_differing_counts(rows, member.rows):
        problems.append(("rows-differ", f"row counts differ from the manifest: {', '.join(tables)}"))
    if changed_tables := find_differences(verification.digests, member.digests):
        problems.append(("content-differs", f"rows differ from the saved rows: {', '.join(changed_tables)}"))
    if verification.schema and member.schema and verification.schema != member.schema:
        problems.append((SCHEMA_DIFFERS, "its schema differs from the manifest"))
    return problems


def trial_server(app: App, member: Member) -> Url | None:
    """Return the server for a trial restore: the configured scratch server, otherwise that of the database.

    A scratch server of another engine does not apply.
    """
    # A partial dump requires the types of its original database.
    if (scratch := app.configured.scratch) and scratch.engine == member.engine and not member.only:
        return scratch
    try:
        return app.url(member.database)
    except (DatabaseUnknownError, DatabaseNotConfiguredError):
        return None
