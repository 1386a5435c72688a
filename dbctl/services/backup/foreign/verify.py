"""Verify foreign backups: read their files completely and load them for trial."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dbctl.errors import DbctlError, RepositoryNotConfiguredError
from dbctl.model import Finding, Findings, format_count
from dbctl.services.app import App
from dbctl.services.backup import verify as backup_verify
from dbctl.services.backup.compare_live import compare_with_live
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.foreign import staging
from dbctl.services.backup.foreign.dump_import import StagedBackup
from dbctl.services.backup.foreign.staging import stage_backup
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verify import ENVIRONMENT_ERRORS, VerifyResult

#: Maximum number of tables with row counts in a message.
MAX_TABLES = 40


def repository_or_temp_dir(app: App, address: str) -> Repository:
    """Return the repository, where files are decompressed; without one, use the temporary folder."""
    try:
        return Repository(app, address)
    except RepositoryNotConfiguredError:
        return Repository(app, tempfile.gettempdir())


def count_bytes(repository: Repository, names: Sequence[str], paths: Sequence[Path]) -> int:
    """Return the number of bytes that ``verify`` reads."""
    own = backup_verify.count_bytes(repository, names) if names or not paths else 0
    return own + staging.count_bytes(paths)


def verify(
    app: App,
    repository: Repository,
    names: Sequence[str],
    paths: Sequence[Path],
    *,
    deep: bool,
    keys: DecryptionKeys,
    live: bool = False,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> VerifyResult:
    """Verify backups as ``services.backup.verify.verify`` does, and foreign files; without paths, only backups."""
    result = (
        backup_verify.verify(app, repository, names, deep=deep, keys=keys, live=live, advance=advance)
        if names or not paths
        else VerifyResult(findings=Findings(checked=0, findings=()), remarks=(), not_decrypted=0)
    )
    if not paths:
        return result
    findings = [
        finding
        for path in paths
        for finding in _verify_file(app, repository, path, keys=keys, live=live, advance=advance)
    ]
    return VerifyResult(
        findings=Findings(
            checked=result.findings.checked + len(paths), findings=[*result.findings.findings, *findings]
        ),
        remarks=result.remarks,
        not_decrypted=result.not_decrypted,
    )


def _verify_file(
    app: App,
    repository: Repository,
    path: Path,
    *,
    keys: DecryptionKeys,
    live: bool,
    advance: Callable[[int], None],
) -> Iterator[Finding]:
    try:
        with stage_backup(app, repository, path, trial=True, advance=advance) as (backup, overlay):
            problems = (
                []
                if backup.manifest.origin
                else list(
                    backup_verify.find_problems(app, overlay.store, backup.manifest, deep=True, keys=keys)
                )
            )
    except ENVIRONMENT_ERRORS:
        raise
    except DbctlError as error:
        yield Finding(target=app.name, severity="error", code=error.code, message=str(error), hint=error.hint)
        return
    for remark in backup.remarks:
        yield Finding(target=app.name, severity="warning", code="maintenance", message=remark)
    yield from problems
    if not any(finding.severity == "error" for finding in problems):
        yield _valid_file_finding(app, path, backup)
        yield from compare_with_live(app, backup.manifest) if live else ()


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
        target=app.target(manifest.databases[0]) if manifest.databases else app.name,
        severity="info",
        code="file-valid",
        message=message,
        hint="Create a backup of it with dbctl backup adopt, or restore it with dbctl restore apply --file.",
    )
