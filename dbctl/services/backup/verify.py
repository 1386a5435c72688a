"""``backup verify``: verify backups and foreign files, and compare them with the live databases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl import progress
from dbctl.errors.backup import BackupCorruptError, KeyWrongError
from dbctl.errors.base import DbctlError, Exit, Remedy
from dbctl.model import Finding, Findings, Severity, Struct, format_count
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App
from dbctl.services.backup.due import write_prune_command
from dbctl.services.backup.encryption import DecryptionKeys, is_encrypted
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.named_files import StagedBackup, count_bytes, stage_backup
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.safety import schema_fingerprint
from dbctl.services.backup.verifier import ENVIRONMENT_ERRORS, INVALID_HINT, BackupVerifier, record_result

DATABASE_OMITTED, DATABASE_LOST = "backup-lacks-database", "retained-database-missing"
DATABASE_LOST_HINT = Remedy(
    "Each restore drops the database that the previous one retained. Revert one restore with: `restore undo`"
)
NO_BACKUP_HINT = Remedy("Check that it is mounted, or create a backup with: `backup create`")
ROWS_HINT = Remedy("Rows may have been deleted or lost. Compare all tables with: `restore preview {id}`")
TABLE_HINT = Remedy(
    "It was dropped, or this is another database. Compare all tables with: `restore preview {id}`"
)
SCHEMA_HINT = Remedy("Compare with: `migrate status`")
LEDGER_HINT = Remedy("Migrate the database after a restore with: `migrate up`")
#: Maximum number of tables with row counts in a message.
MAX_TABLES = 40


class VerifyResult(Struct, frozen=True, kw_only=True):
    """Result of a verification."""

    findings: Findings
    remarks: Sequence[str]  #: results that could not be recorded, and backups deleted concurrently
    not_decrypted: int  #: encrypted backups that were not decrypted, because ``deep`` was not set

    @property
    def status(self) -> Exit:
        """Exit code 4 if a backup has a problem."""
        return Exit.CHECK_FAILED if self.findings.has_errors else Exit.OK


class VerifyBackups:
    """Read backups completely and compare them with their manifests; load foreign files for trial."""

    def __init__(
        self,
        repository: Repository,
        names: Sequence[str] = (),
        paths: Sequence[Path] = (),
        *,
        keys: DecryptionKeys,
        deep: bool,
        live: bool = False,
    ) -> None:
        """Select the backups; with ``deep``, read their keys, which may prompt for a passphrase.

        Args:
            repository: the backups.
            names: their ids; empty without paths: all backups, and a report of incomplete ones.
            paths: foreign files and folders.
            keys: for encrypted backups.
            deep: whether to load each backup and check its content; foreign files are always loaded.
            live: whether to compare each backup with the live databases.

        Raises:
            BackupMissingError, BackupCorruptError: a named backup does not exist, or its manifest cannot be read.
            KeyMissingError: no key for an encrypted backup; other errors as ``DecryptionKeys.prepare``.
        """
        self._repository, self._app, self._paths = repository, repository.app, paths
        self._keys, self._deep, self._live = keys, deep, live
        self._reports_all = not (names or paths)
        self._selected: Sequence[Manifest] = repository.find_all(names) if names else ()
        self._unreadable: Mapping[str, str] = {}
        if self._reports_all:
            self._selected, self._unreadable = repository.manifests()
        for manifest in self._selected if deep else ():
            with suppress(BackupCorruptError, KeyWrongError):  # reported later, when the backup is decrypted
                keys.prepare(repository.store, manifest)

    def size(self) -> int:
        """Return the number of bytes to read."""
        return sum(manifest.bytes for manifest in self._selected) + count_bytes(self._paths)

    def run(self) -> VerifyResult:
        app, repository, selected = self._app, self._repository, self._selected
        findings, remarks, deleted = list[Finding](), list[str](), list[str]()
        if self._reports_all:
            findings += self._find_without_manifest()
        lost_databases = repository.find_lost_databases(selected)
        verifier = BackupVerifier(repository, self._keys, deep=self._deep)
        for manifest in progress.list_parts(selected, "backup"):
            problems = list(verifier.find_problems(manifest, [app.only] if app.only else ()))
            if problems and repository.is_deleted(manifest):
                deleted.append(manifest.id)
                continue
            findings += [*problems, *_find_unrestorable(app, manifest, lost_databases.get(manifest.id, ""))]
            remarks += record_result(repository, manifest, problems, all_files=not app.only, deep=self._deep)
            findings += compare_with_live(app, manifest) if self._live else ()
        for path in self._paths:
            findings += self._verify_file(path)
        remarks += [f"{name} was deleted during the verification" for name in deleted]
        if deleted and len(deleted) == len(selected):  # by prune, or their disk is no longer mounted
            findings.append(self._report_no_backup())
        checked = len(selected) - len(deleted) + len(self._unreadable) + len(self._paths)
        return VerifyResult(
            findings=Findings(checked=checked, unit="backup", findings=findings),
            remarks=remarks,
            not_decrypted=0 if self._deep else sum(map(is_encrypted, selected)),
        )

    def _find_without_manifest(self) -> Iterator[Finding]:
        target, repository = self._app.name, self._repository
        if not (self._selected or self._unreadable):
            yield self._report_no_backup()
        for folder, reason in self._unreadable.items():
            yield Finding(
                target,
                "error",
                "manifest-unreadable",
                f"backup {folder}: its manifest: {reason}",
                INVALID_HINT,
            )
        for folder in repository.incomplete():
            yield Finding(
                target,
                "info",
                "backup-incomplete",
                f"{folder} was interrupted, or is being created",
                f"It is not a backup. Remove it with: {write_prune_command(self._app)}",
            )

    def _report_no_backup(self) -> Finding:
        message = f"no backup in {self._repository.store.location}"
        if self._selected:
            message = f"none of the selected backups is in {self._repository.store.location} any more"
        return Finding(self._app.name, "error", "no-backup", message, NO_BACKUP_HINT.write())

    def _verify_file(self, path: Path) -> Iterator[Finding]:
        app, problems = self._app, list[Finding]()
        try:
            with stage_backup(self._repository, path, trial=True, keys=self._keys) as (backup, overlay):
                if not backup.manifest.origin:
                    problems += BackupVerifier(overlay, self._keys, deep=True).find_problems(backup.manifest)
        except ENVIRONMENT_ERRORS:
            raise
        except DbctlError as error:
            yield Finding(app.name, "error", error.code, str(error), error.hint)
            return
        for remark in backup.remarks:
            yield Finding(target=app.name, severity="warning", code="maintenance", message=remark)
        yield from problems
        if not any(finding.severity == "error" for finding in problems):
            yield _valid_file_finding(app, path, backup)
            yield from compare_with_live(app, backup.manifest) if self._live else ()


def _find_unrestorable(app: App, manifest: Manifest, lost: str) -> Iterator[Finding]:
    """Yield databases that a backup lacks; ``lost``: why a retained database cannot be restored, or empty."""
    for omitted in manifest.failed:
        message = f"backup {manifest.id} lacks {omitted.database}: {omitted.reason}"
        target = app.target(omitted.database)
        yield Finding(target=target, severity="warning", code=DATABASE_OMITTED, message=message)
    if lost:
        yield Finding(
            app.name,
            "warning",
            DATABASE_LOST,
            f"backup {manifest.id}: {lost}; it cannot be restored",
            DATABASE_LOST_HINT.write(),
        )


def _valid_file_finding(app: App, path: Path, backup: StagedBackup) -> Finding:
    manifest = backup.manifest
    contents = []
    for member in manifest.members:
        if member.form == "dump":
            rows = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            counts = ", ".join(f"{name} {count}" for name, count in list(member.rows.items())[:MAX_TABLES])
            contents.append(f"{member.database}, {rows} ({counts})")
    time_note = f" ({manifest.origin.time})" if manifest.origin else ""
    trial_note = "; loaded for trial" if backup.is_loaded else ""
    message = f"{path} is valid: {backup.description}; {'; '.join(contents)}; of {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC{time_note}{trial_note}"
    return Finding(
        app.target(manifest.databases[0]) if manifest.databases else app.name,
        "info",
        "file-valid",
        message,
        Remedy(
            "Create a backup of it with: `backup adopt {path}`; or restore it with: `restore apply --file {path}`"
        ).write(app.name, {"path": path}),
    )


def compare_with_live(app: App, manifest: Manifest) -> Iterator[Finding]:
    """Yield the differences between each database of a backup and the live one: row counts, schema, migrations.

    More live rows are expected, so they are only an info; fewer rows are a warning, and a missing table is an error.

    Raises:
        DbctlError: a live database cannot be read.
    """
    for member in manifest.members:
        if member.form in ("dump", "kept") and app.only in ("", member.database):
            target = app.target(member.database)
            for severity, code, description, hint in _compare_database(app, member):
                message = f"backup {manifest.id}: {description}"
                text = hint.write(app.name, {"id": manifest.id})
                yield Finding(target=target, severity=severity, code=code, message=message, hint=text)


def _compare_database(app: App, member: Member) -> Iterator[tuple[Severity, str, str, Remedy]]:
    """Yield severity, code, description and hint of each difference."""
    live = app.reader(member.database)
    live_counts = live.count_dump_rows(member.rows)
    ledger_tables = ledger_detection.ledger_tables(app, member.database, live)
    for table, saved_count in member.rows.items():
        if table in member.schema_only and table in live_counts:
            continue
        if table not in live_counts:
            description = f"{table} does not exist in the live database; the backup has {saved_count} rows"
            yield "error", "table-missing", description, TABLE_HINT
            continue
        counts = f"{table} has {live_counts[table]} live rows, {saved_count} in the backup"
        if live_counts[table] == saved_count:
            continue
        if table in ledger_tables:
            yield "warning", "migrations-differ", f"the ledger {counts}", LEDGER_HINT
        elif live_counts[table] < saved_count:
            yield "warning", "rows-fewer", counts, ROWS_HINT
        else:
            yield "info", "rows-more", counts, Remedy("")
    if not member.only:
        for table in sorted(live_counts.keys() - member.rows.keys()):
            counts = f"{table} is not in the backup and has {live_counts[table]} live rows"
            yield "info", "table-new", counts, Remedy("")
        if member.schema and schema_fingerprint(live) not in ("", member.schema):
            yield "warning", "schema-changed", "the live schema is different", SCHEMA_HINT
