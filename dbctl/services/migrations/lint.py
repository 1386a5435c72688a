"""``migrate lint``: examine migration files for risks to rows, locks and running apps before they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.schema import LintFinding, ScriptDialect
from dbctl.errors.connection import DatabaseMissingError
from dbctl.errors.migrations import MigrationInvalidError
from dbctl.model import Finding, Findings, Severity, Struct
from dbctl.services.app.app import App
from dbctl.services.migrations.execution.plan import EXTERNAL_EFFECT, RUNS_TEXT, create_script
from dbctl.services.migrations.files.loader import MigrationFile, Steps
from dbctl.services.migrations.files.parser import AllowedCode
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.lint_rules import LINT_RULES
from dbctl.services.migrations.status import load_state

#: Codes that ``-- dbctl: allow-data-loss`` suppresses.
DATA_LOSS_CODES = frozenset({"drops-table", "drops-column", "deletes-all", "deletes-rows", "updates-all"})
#: Codes that are reported only if the profile has their guideline.
GUIDELINE_CODES = frozenset({"no-if-not-exists", "no-if-exists", "no-insert-or-ignore"})
#: Codes that are reported for down sections; deleting is their purpose.
DOWN_CODES = frozenset({EXTERNAL_EFFECT, RUNS_TEXT, "no-if-exists"})
#: Layouts in which each migration can have a down section or file.
FORMATS_WITH_DOWN = ("up-down", "dbmate", "goose", "pairs")
#: Lines above the first statement that do not describe the migration.
_BOILERPLATE_LINE = re.compile(r"\W*(?:--\s*(?:up|down|migrate:.*|\+goose.*|dbctl\s*:.*))?\W*", re.IGNORECASE)


class _RunnableFile(Struct, frozen=True):
    """A valid file with its statements."""

    file: MigrationFile
    up: Steps
    down: Steps | None


def lint(app: App, targets: Sequence[MigrationTarget], *, all_files: bool = False) -> Findings:
    """Examine the pending files, or ``all_files`` without opening a database; writes nothing.

    All files are also examined if the database does not exist.

    Raises:
        DbctlError: a database cannot be read.
    """
    selections = [
        selection
        for target in targets
        for selection in (iterate_variants(target) if all_files else [_select_pending(app, target)])
    ]
    return Findings(
        checked=sum(len(names) for _, names in selections),
        unit="migration",
        findings=[finding for target, names in selections for finding in lint_files(target, names)],
    )


def _select_pending(app: App, target: MigrationTarget) -> tuple[MigrationTarget, Sequence[str]]:
    try:
        state = load_state(app, target)
    except DatabaseMissingError:
        return target, list(target.folder.files)
    return state.target, state.names_in("pending", "out-of-order", "duplicate-version", "failed")


def iterate_variants(target: MigrationTarget) -> Iterator[tuple[MigrationTarget, Sequence[str]]]:
    """Yield each variant with the names of all its files."""
    for folder in target.variant_folders.values() or [target.folder]:
        yield structs.replace(target, folder=folder), list(folder.files)


def lint_files(target: MigrationTarget, names: Sequence[str]) -> list[Finding]:
    """Return the findings for the files of these names; earlier files are read as context."""
    language = registry.load_engine(target.engine).script_dialect
    findings_by_name, runnable_files = dict[str, list[Finding]](), list[_RunnableFile]()
    for file in target.folder.files.values():
        findings_by_name[file.name] = []
        try:
            runnable_files.append(_RunnableFile(file, file.parse_up(language), file.parse_down(language)))
        except MigrationInvalidError as error:
            reason = str(error.context["reason"])
            findings_by_name[file.name].append(
                _create_finding(target, file, "error", "unusable", reason, "It cannot be run.")
            )
    findings_by_file = language.lint(create_script(runnable.up) for runnable in runnable_files)
    for runnable, lint_findings in zip(runnable_files, findings_by_file, strict=True):
        if runnable.file.name in names:
            findings_by_name[runnable.file.name] += _lint_file(target, language, runnable, lint_findings)
    return [runnable for name in names if name in findings_by_name for runnable in findings_by_name[name]]


def _lint_file(
    target: MigrationTarget,
    language: ScriptDialect,
    runnable: _RunnableFile,
    lint_findings: Sequence[LintFinding],
) -> Iterator[Finding]:
    up = [*lint_findings, *_lint_ledger_drops(target, language, runnable.up), *_lint_text(target, runnable)]
    if runnable.up.section.allows_data_loss:
        up = [finding for finding in up if finding.code not in DATA_LOSS_CODES]
    yield from _create_findings(target, runnable.file, runnable.up, up)
    if runnable.down:
        (lint_findings,) = language.lint([create_script(runnable.down)])
        down = [finding for finding in lint_findings if finding.code in DOWN_CODES]
        yield from _create_findings(
            target,
            runnable.file,
            runnable.down,
            [*down, *_lint_ledger_drops(target, language, runnable.down)],
        )


def _lint_ledger_drops(
    target: MigrationTarget, language: ScriptDialect, steps: Steps
) -> Iterator[LintFinding]:
    ledger_tables = {name.lower() for name in target.ledger_tables if name}
    for line, sql in steps.statements:
        for name in language.effect(sql).dropped_tables:
            if name.lower() in ledger_tables:
                yield LintFinding(line, "drops-ledger", f"drops {name}, which records the applied migrations")


def _lint_text(target: MigrationTarget, runnable: _RunnableFile) -> Iterator[LintFinding]:
    """Yield findings about comments, sections and numbers."""
    file, section = runnable.file, runnable.up.section
    for line in section.hidden_marker_lines:
        yield LintFinding(
            line, "marker-hidden", "the app's own runner reads this line as the end of the up section"
        )
    line, sql = runnable.up.statements[0]
    *above, same_line = file.decode().removeprefix("\ufeff").split("\n")[:line]
    if all(
        _BOILERPLATE_LINE.fullmatch(line)
        for line in (*above, same_line.partition(sql.partition("\n")[0][:-1])[0])
    ):
        yield LintFinding(0, "missing-description", "no comment at the top describes the migration")
    if runnable.down is None and (section.marker_line or file.format in FORMATS_WITH_DOWN):
        yield LintFinding(0, "no-down", "it has no down section")
    # The app runs only one of these files.
    is_alternative = any(file.name in names for names in target.section.one_of)
    if target.ledger.version and file.name in target.folder.shared_numbers and not is_alternative:
        yield LintFinding(
            0, "shared-number", "another file has the same number, which identifies migrations in the ledger"
        )


def _create_findings(
    target: MigrationTarget, file: MigrationFile, steps: Steps, lint_findings: Sequence[LintFinding]
) -> Iterator[Finding]:
    """Yield the findings for one direction, without those that the file allows."""
    lines = [line for line, _ in steps.statements]
    for lint_finding in sorted(lint_findings, key=lambda allowed: allowed.line):
        is_required = LINT_RULES[lint_finding.code].guideline in target.section.guidelines
        if lint_finding.code in GUIDELINE_CODES and not is_required:
            continue
        if not any(_allows(allowed, lint_finding, lines) for allowed in steps.section.allowed):
            severity: Severity = "warning" if is_required else LINT_RULES[lint_finding.code].severity
            yield _create_finding(
                target,
                file,
                severity,
                lint_finding.code,
                lint_finding.message,
                LINT_RULES[lint_finding.code].hint,
                line=lint_finding.line,
                path=steps.path,
                source=_read_line(file, steps.path, lint_finding.line),
            )


def _read_line(file: MigrationFile, path: Path, line: int) -> str | None:
    raw = file.down_file[1] if file.down_file and file.down_file[0] == path else file.raw
    return raw.decode("utf-8-sig").split("\n")[line - 1].strip() if line else None


def _allows(allowed: AllowedCode, finding: LintFinding, lines: Sequence[int]) -> bool:
    if allowed.code != finding.code:
        return False
    return allowed.in_whole_file or finding.line == next(
        (line for line in lines if line > allowed.line), None
    )


def _create_finding(
    target: MigrationTarget,
    file: MigrationFile,
    severity: Severity,
    code: str,
    message: str,
    hint: str,
    *,
    line: int = 0,
    path: Path | None = None,
    source: str | None = None,
) -> Finding:
    path = path or file.path
    path_in_folder = path.relative_to(target.folder.path)
    where = f"{path_in_folder}:{line}" if line else str(path_in_folder)
    return Finding(
        target=target.name,
        severity=severity,
        code=code,
        message=f"{where}: {message}",
        hint=hint,
        file=str(path),
        line=line or None,
        source=source,
    )
