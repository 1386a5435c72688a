"""JUnit XML: a suite for each target, with a test case for each finding. Errors are failures; other findings pass."""

from __future__ import annotations

import html  # xml.sax.saxutils loads the client of HTTP
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dbctl.render.reports.report import Entry, Report


def format_report(report: Report) -> Iterator[str]:
    """Yield the parts of the document. A check without findings is one test case, which passes."""
    by_target = dict[str, list[Entry]]()
    for entry in report.entries:
        by_target.setdefault(entry.target, []).append(entry)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    counts = _count(report.entries, report.failure)
    yield f"<testsuites{_attributes({'name': f'dbctl {report.command}', **counts})}>\n"
    for target, entries in by_target.items():
        yield from _format_suite(report, target, entries)
    if not report.entries:
        yield from _format_empty_suite(report)
    yield "</testsuites>\n"


def _format_suite(report: Report, target: str, entries: Sequence[Entry]) -> Iterator[str]:
    yield f"  <testsuite{_attributes({'name': target, **_count(entries), 'skipped': '0'})}>\n"
    names = Counter[str]()
    for entry in entries:
        name = f"{entry.code}: {entry.message}"
        names[name] += 1
        # GitLab ignores all but the first test case of a name.
        yield _begin_case(report, f"{name} ({names[name]})" if names[name] > 1 else name)
        text = _escape("\n".join(filter(None, [entry.message, entry.hint])))
        if entry.severity == "error":
            yield f"<failure{_attributes({'type': entry.code, 'message': entry.message})}>{text}</failure>"
        else:
            yield f"<system-out>{entry.severity}: {text}</system-out>"
        yield "</testcase>\n"
    yield "  </testsuite>\n"


def _format_empty_suite(report: Report) -> Iterator[str]:
    is_skipped = not (report.checked or report.failure)
    name = report.target or f"dbctl {report.command}"
    attributes = {"name": name, **_count((), report.failure), "skipped": str(int(is_skipped))}
    yield f"  <testsuite{_attributes(attributes)}>\n"
    yield _begin_case(report, f"dbctl {report.command}")
    if report.failure:
        text = _escape("\n".join(filter(None, [report.failure.message, report.failure.hint])))
        attributes = {"type": report.failure.code, "message": report.failure.message}
        yield f"<error{_attributes(attributes)}>{text}</error>"
    elif is_skipped:
        yield '<skipped message="nothing to check"/>'
    yield "</testcase>\n  </testsuite>\n"


def _begin_case(report: Report, name: str) -> str:
    classname = ".".join(["dbctl", *report.command.split()])
    return f"    <testcase{_attributes({'classname': classname, 'name': name})}>"


def _count(entries: Sequence[Entry], failure: Entry | None = None) -> Mapping[str, str]:
    failures = sum(entry.severity == "error" for entry in entries)
    counts = {"tests": len(entries) or 1, "failures": failures, "errors": int(failure is not None)}
    return {name: str(count) for name, count in counts.items()}


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(f' {name}="{html.escape(value)}"' for name, value in values.items())


def _escape(text: str) -> str:
    return html.escape(text, quote=False)
