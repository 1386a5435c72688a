"""Convert the findings of a command to a report, whose texts are safe in every format; the meaning of their codes; and the formats."""

from __future__ import annotations

import hashlib
import html  # xml.sax.saxutils loads the client of HTTP
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import msgspec

from dbctl import __version__
from dbctl.errors.base import DbctlError
from dbctl.files import toml
from dbctl.model import Finding, Findings, Severity, Struct, group, join_hint
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.render.text import escape

#: Files of dbctl itself are in no repository of an app.
_OWN_FOLDER = Path(__file__).parents[1]
_GITHUB_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}
_GITLAB_SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}


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


def format_github(report: Report) -> Iterator[str]:
    """Yield workflow commands of GitHub Actions, which annotate files and show messages in the summary of a run; one for each finding."""
    for entry in report.list_all():
        properties = {"title": f"dbctl {report.command}: {entry.code}"}
        if entry.location:
            properties = {"file": escape(entry.location.path), "line": str(entry.location.line), **properties}
        words = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
        yield f"::{_GITHUB_COMMANDS[entry.severity]} {words}::{_escape_message(_describe_entry(entry))}\n"


def _describe_entry(entry: Entry) -> str:
    message = f"{entry.target}: {entry.message}" if entry.target else entry.message
    return f"{message}\n{entry.hint}" if entry.hint else message


def _escape_message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_message(text).replace(":", "%3A").replace(",", "%2C")


def format_gitlab(report: Report) -> Iterator[str]:
    """Yield the parts of a report of GitLab's Code Quality: an array of issues, each with the path and line that GitLab requires."""
    yield "["
    for index, entry in enumerate(report.list_all()):
        issue = _create_issue(
            entry, "blocker" if entry is report.failure else _GITLAB_SEVERITIES[entry.severity]
        )
        yield (",\n" if index else "\n") + json.dumps(issue)
    yield "\n]\n"


def _create_issue(entry: Entry, severity: str) -> dict[str, object]:
    location = entry.location or Location(entry.target.lstrip("/") or "dbctl")
    description = ": ".join(filter(None, [entry.target, entry.message])) or entry.code
    return {
        "description": f"{description} ({entry.hint})" if entry.hint else description,
        "check_name": entry.code,
        "fingerprint": entry.fingerprint,
        "severity": severity,
        "location": {"path": escape(location.path), "lines": {"begin": location.line}},
    }


def format_junit(report: Report) -> Iterator[str]:
    """Yield the parts of JUnit XML: a suite for each target, with a test case for each finding. Errors are failures; other findings pass.

    A check without findings is one test case, which passes.
    """
    by_target = group((entry.target, entry) for entry in report.entries)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    counts = _count_cases(report.entries, report.failure)
    yield f"<testsuites{_attributes({'name': f'dbctl {report.command}', **counts})}>\n"
    for target, entries in by_target.items():
        yield from _format_suite(report, target, entries)
    if not report.entries:
        yield from _format_empty_suite(report)
    yield "</testsuites>\n"


def _format_suite(report: Report, target: str, entries: Sequence[Entry]) -> Iterator[str]:
    yield f"  <testsuite{_attributes({'name': target, **_count_cases(entries), 'skipped': '0'})}>\n"
    names = Counter[str]()
    for entry in entries:
        name = f"{entry.code}: {entry.message}"
        names[name] += 1
        # GitLab ignores all but the first test case of a name.
        yield _begin_case(report, f"{name} ({names[name]})" if names[name] > 1 else name)
        text = _escape_xml("\n".join(filter(None, [entry.message, entry.hint])))
        if entry.severity == "error":
            yield f"<failure{_attributes({'type': entry.code, 'message': entry.message})}>{text}</failure>"
        else:
            yield f"<system-out>{entry.severity}: {text}</system-out>"
        yield "</testcase>\n"
    yield "  </testsuite>\n"


def _format_empty_suite(report: Report) -> Iterator[str]:
    is_skipped = not (report.checked or report.failure)
    name = report.target or f"dbctl {report.command}"
    attributes = {"name": name, **_count_cases((), report.failure), "skipped": str(int(is_skipped))}
    yield f"  <testsuite{_attributes(attributes)}>\n"
    yield _begin_case(report, f"dbctl {report.command}")
    if report.failure:
        text = _escape_xml("\n".join(filter(None, [report.failure.message, report.failure.hint])))
        attributes = {"type": report.failure.code, "message": report.failure.message}
        yield f"<error{_attributes(attributes)}>{text}</error>"
    elif is_skipped:
        yield '<skipped message="nothing to check"/>'
    yield "</testcase>\n  </testsuite>\n"


def _begin_case(report: Report, name: str) -> str:
    classname = ".".join(["dbctl", *report.command.split()])
    return f"    <testcase{_attributes({'classname': classname, 'name': name})}>"


def _count_cases(entries: Sequence[Entry], failure: Entry | None = None) -> Mapping[str, str]:
    failures = sum(entry.severity == "error" for entry in entries)
    counts = {"tests": len(entries) or 1, "failures": failures, "errors": int(failure is not None)}
    return {name: str(count) for name, count in counts.items()}


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(f' {name}="{html.escape(value)}"' for name, value in values.items())


def _escape_xml(text: str) -> str:
    return html.escape(text, quote=False)


#: Results that GitHub accepts in a run; it rejects files with more.
MAX_RESULTS = 25_000
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
DOCUMENTATION = "https://github.com/dbctl/dbctl/blob/main/docs"
#: The beginning of what SARIF reads as a link, as in Markdown.
_LINK = re.compile(r"\[(?=[^\]]*\]\()")
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_SEVERITIES = ("error", "warning", "info")


def count_omitted(report: Report) -> int:
    """Return the number of findings that the document omits."""
    return max(0, len(report.entries) - MAX_RESULTS)


def format_sarif(report: Report) -> Iterator[str]:
    """Yield the parts of a document of SARIF 2.1.0: one run with at most as many results as GitHub accepts, the most severe first."""
    entries = sorted(report.entries, key=lambda entry: _SEVERITIES.index(entry.severity))[:MAX_RESULTS]
    rules = {entry.code: entry for entry in reversed(entries)}
    indexes = {code: index for index, code in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "dbctl",
                "version": __version__,
                "informationUri": f"{DOCUMENTATION}/README.md",
                "rules": [_describe_rule(report, entry) for entry in rules.values()],
            }
        },
        # GitHub stores the results of each category separately.
        "automationDetails": {"id": f"dbctl/{report.command.replace(' ', '-')}/"},
        "invocations": [_describe_run(report)],
        "columnKind": "unicodeCodePoints",
        "results": [],
    }
    before, separator, after = json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}).rpartition(
        '"results": ['
    )
    yield before + separator
    for index, entry in enumerate(entries):
        yield (",\n" if index else "\n") + json.dumps(_create_result(entry, indexes[entry.code]))
    yield after + "\n"


def _describe_rule(report: Report, entry: Entry) -> dict[str, object]:
    """Return the rule of a finding; GitHub requires each of the descriptions."""
    page = "reference/lint.md" if report.command == "migrate lint" else "reference/findings.md"
    words = entry.code.split("-")
    description = {"text": f"dbctl {report.command}: {' '.join(words)}"}
    return {
        "id": entry.code,
        "name": "".join(word.capitalize() for word in words),
        "shortDescription": description,
        "fullDescription": description,
        "help": {"text": entry.hint or description["text"]},
        "helpUri": f"{DOCUMENTATION}/{page}",
    }


def _describe_run(report: Report) -> dict[str, object]:
    notifications: Sequence[dict[str, object]] = ()
    if report.failure:
        text = join_hint(report.failure.message, report.failure.hint)
        notifications = [_notify("error", report.failure.code, text)]
    elif omitted := count_omitted(report):
        text = f"{omitted} of {len(report.entries)} findings are omitted; -o json contains all."
        notifications = [_notify("warning", "findings-omitted", text)]
    return {
        "executionSuccessful": report.failure is None,
        "exitCode": report.status,
        "toolExecutionNotifications": notifications,
    }


def _notify(level: str, code: str, text: str) -> dict[str, object]:
    return {"level": level, "descriptor": {"id": code}, "message": {"text": text}}


def _create_result(entry: Entry, rule_index: int) -> dict[str, object]:
    message = _LINK.sub(r"\\[", entry.message)
    text = f"{message}\n{entry.hint}" if entry.hint else message
    location: dict[str, object] = {}
    if entry.location:
        location["physicalLocation"] = _describe_file(entry.location)
    if entry.target:
        name = entry.target.rpartition("/")[2]
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": entry.target}]
    return {
        "ruleId": entry.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[entry.severity],
        "message": {"text": text},
        "locations": [location] if location else [],
        "partialFingerprints": {"dbctl/v1": entry.fingerprint},
    }


def _describe_file(location: Location) -> dict[str, object]:
    return {
        "artifactLocation": {"uri": quote(os.fsencode(location.path)), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": location.line},
    }


_FORMATS = {
    Format.GITHUB: format_github,
    Format.GITLAB: format_gitlab,
    Format.JUNIT: format_junit,
    Format.SARIF: format_sarif,
}


def write_report(report: Report, output: Format) -> None:
    """Write a report to standard output, and to standard error what the format cannot contain.

    Raises:
        OutputFailedError: standard output cannot be written.
    """
    for part in _FORMATS[output](report):
        streams.write(part, utf8=True)
    if output is Format.SARIF and (omitted := count_omitted(report)):
        total, limit = len(report.entries), MAX_RESULTS
        streams.remark(
            f"dbctl: {omitted} of {total} findings are omitted: GitHub accepts {limit}; -o json contains all"
        )
