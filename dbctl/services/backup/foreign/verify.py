"""Whether files that dbctl did not make could be restored: read whole, and tried, beside the backups that it made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dbctl.errors import DbctlError, RepositoryUnsetError
from dbctl.model import Finding, Findings, counted
from dbctl.services.app import App
from dbctl.services.backup import verify as backup_verify
from dbctl.services.backup.compare_live import against_live
from dbctl.services.backup.encryption import Keys
from dbctl.services.backup.foreign import detect
from dbctl.services.backup.foreign.detect import Staged, staged
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verify import NOT_OF_IT, Checked

#: Tables whose rows are told one by one.
MOST_TABLES = 40


def room(app: App, given: str) -> Repository:
    """Return the repository, in which there is room to unpack; where none is configured, a place for what is brief."""
    try:
        return Repository(app, given)
    except RepositoryUnsetError:
        return Repository(app, tempfile.gettempdir())


def size(repository: Repository, names: Sequence[str], paths: Sequence[Path]) -> int:
    """Return how many bytes ``verify`` reads of these."""
    own = backup_verify.size(repository, names) if names or not paths else 0
    return own + detect.size(paths)


def verify(
    app: App,
    repository: Repository,
    names: Sequence[str],
    paths: Sequence[Path],
    *,
    deep: bool,
    keys: Keys,
    live: bool = False,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> Checked:
    """Verify backups as ``backup_verify.verify`` does, and files that dbctl did not make; without paths, that alone."""
    own = (
        backup_verify.verify(app, repository, names, deep=deep, keys=keys, live=live, advance=advance)
        if names or not paths
        else Checked(findings=Findings(checked=0, findings=()), remarks=(), unopened=0)
    )
    if not paths:
        return own
    findings = [
        finding
        for path in paths
        for finding in _tried(app, repository, path, keys=keys, live=live, advance=advance)
    ]
    return Checked(
        findings=Findings(
            checked=own.findings.checked + len(paths), findings=[*own.findings.findings, *findings]
        ),
        remarks=own.remarks,
        unopened=own.unopened,
    )


def _tried(
    app: App, repository: Repository, path: Path, *, keys: Keys, live: bool, advance: Callable[[int], None]
) -> Iterator[Finding]:
    try:
        with staged(app, repository, path, trial=True, advance=advance) as (found, beside):
            wrong = (
                []
                if found.manifest.origin
                else list(backup_verify.problems(app, beside.store, found.manifest, deep=True, keys=keys))
            )
    except NOT_OF_IT:
        raise
    except DbctlError as error:
        yield Finding(target=app.name, severity="error", code=error.code, message=str(error), hint=error.hint)
        return
    for remark in found.remarks:
        yield Finding(target=app.name, severity="warning", code="look-after", message=remark)
    yield from wrong
    if not any(one.severity == "error" for one in wrong):
        yield _sound(app, path, found)
        yield from against_live(app, found.manifest) if live else ()


def _sound(app: App, path: Path, found: Staged) -> Finding:
    told = found.manifest
    held = []
    for one in told.members:
        if one.form == "dump":
            rows = f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            each = ", ".join(f"{name} {number}" for name, number in list(one.rows.items())[:MOST_TABLES])
            held.append(f"{one.database}, {rows} ({each})")
    source = f" ({told.origin.time})" if told.origin else ""
    loaded = "; it was loaded on trial" if found.tried else ""
    message = f"{path} is whole: {found.what}; {'; '.join(held)}; of {told.created_at:%Y-%m-%d %H:%M:%S} UTC{source}{loaded}"
    return Finding(
        target=app.target(told.databases[0]) if told.databases else app.name,
        severity="info",
        code="file-sound",
        message=message,
        hint="dbctl backup adopt makes a backup of it; dbctl restore apply --file restores it.",
    )
