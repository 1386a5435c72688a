"""Convert the findings of a command to a report, whose texts are safe in every format; the meaning of their codes."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from dbctl.errors.base import DbctlError
from dbctl.files import toml
from dbctl.model import Finding, Findings, Severity, Struct
from dbctl.render.text import escape

#: Files of dbctl itself are in no repository of an app.
_OWN_FOLDER = Path(__file__).parents[2]


class Location(Struct, frozen=True):
    """A line of a file."""

    path: str  #: relative to the root of the repository, or to the working directory without one
    line: int = 1


class Entry(Struct, frozen=True, kw_only=True):
    """One finding. Control characters and bidi overrides in its texts are escaped."""

    target: str
    severity: Severity
    code: str
    message: str
    hint: str
    location: Location | None  #: None: no file is known
    fingerprint: (
        str  #: equal for the same finding of another run, also if lines have moved and numbers have changed
    )


class Report(Struct, frozen=True, kw_only=True):
    """The findings of one run of a command."""

    command: str  #: ``migrate lint``
    target: str
    checked: int  #: number of checked objects
    status: int  #: the exit code
    entries: Sequence[Entry]
    failure: Entry | None = None  #: the error that ended the command

    def list_all(self) -> Sequence[Entry]:
        """Return the findings, then the error."""
        return [*self.entries, *([self.failure] if self.failure else [])]


class _TargetLocator:
    """Locates the section of the configuration that defines the app of a target."""

    def __init__(self, config: Path | None) -> None:
        self._config, self._text = config, ""
        with suppress(OSError, ValueError):
            self._text = config.read_text(encoding="utf-8-sig") if config else ""
        self._locations = dict[str, Location | None]()

    def locate(self, target: str) -> Location | None:
        """Return the location; None without a configuration."""
        app = target.partition("/")[0]
        if self._config and app not in self._locations:
            self._locations[app] = locate_file(self._config, toml.line_of(self._text, ("apps", app)))
        return self._locations.get(app)


def create_report(
    command: Sequence[str], findings: Findings, *, status: int, target: str | None, config: Path | None
) -> Report:
    """Return the report of a check; the sections of ``config`` are the locations of findings without a file."""
    counts, locator = Counter[tuple[object, ...]](), _TargetLocator(config)
    return Report(
        command=" ".join(command),
        target=escape(target or ""),
        checked=findings.checked,
        status=status,
        entries=[_create_entry(finding, locator, counts) for finding in findings.findings],
    )


def report_failure(command: Sequence[str], error: DbctlError, *, status: int) -> Report:
    target = error.context.get("target")
    finding = Finding(target if isinstance(target, str) else "", "error", error.code, str(error), error.hint)
    return Report(
        command=" ".join(command),
        target=escape(finding.target),
        checked=0,
        status=status,
        entries=(),
        failure=_create_entry(finding, _TargetLocator(None), Counter()),
    )


def locate_file(file: str | Path, line: int | None) -> Location | None:
    """Return the location of a file of the repository or of the working directory; None for other files."""
    path = Path(os.path.abspath(file))  # noqa: PTH100 - git records paths through links
    root = _find_root(path.parent) or Path.cwd()
    if not path.is_relative_to(root) or path.is_relative_to(_OWN_FOLDER):
        return None
    return Location(str(path.relative_to(root)), line or 1)


@cache
def _find_root(folder: Path) -> Path | None:
    """Return the repository that contains a folder."""
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)


def _create_entry(finding: Finding, locator: _TargetLocator, counts: Counter[tuple[object, ...]]) -> Entry:
    location = locate_file(finding.file, finding.line) if finding.file else None
    path = location.path if location else finding.file
    # Numbers are lines and counts, which change while the problem remains.
    identity = (finding.target, finding.code, path, re.sub(r"\d+", "0", finding.message))
    counts[identity] += 1
    identifier = repr((*identity, counts[identity])).encode()
    return Entry(
        target=escape(finding.target),
        severity=finding.severity,
        code=finding.code,
        message=escape(finding.message),
        hint=escape(finding.hint),
        location=location or locator.locate(finding.target),
        fingerprint=hashlib.sha256(identifier).hexdigest()[:32],
    )


class CodeEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Codes with one meaning."""

    codes: Sequence[str]
    commands: Sequence[str] = ()  #: those that report it; empty: those of the subject
    severities: Sequence[Severity]  #: the most severe first, except where it depends on the profile
    meaning: str  #: Markdown
    action: str  #: Markdown


class CodeSubject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The codes of one subject, and the commands that report them."""

    title: str
    commands: Sequence[str]
    entries: Sequence[CodeEntry]


class _Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    subject: Sequence[CodeSubject]


def read_subjects() -> Sequence[CodeSubject]:
    """Return the subjects in the order of the reference."""
    content = Path(__file__).with_name("codes.toml").read_bytes()
    return msgspec.toml.decode(content, type=_Catalog).subject
