"""The page with the codes of findings, docs/reference/findings.md."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.render.reports import CodeSubject, read_subjects

HEADER = """\
# Codes of findings

Generated from `dbctl/render/codes.toml`. A finding has a code, a severity, a message and usually a hint, which names the
objects and has the command with the options of the app. `dbctl help CODE` prints what this page contains about a code.
Every command also reports a check that failed with [the code of its error](errors.md). The codes of `migrate lint` are
[its rules](lint.md). `doctor` and `integrity check` exit with 4 for a finding with the severity error,
and with the exit code of the first error if only checks that could not run have one, such as 10 for a database that cannot be reached.
"""


def findings_page() -> str:
    """Return the page."""
    return "\n".join([HEADER, *(_format_subject(subject) for subject in read_subjects())])


def _format_subject(subject: CodeSubject) -> str:
    lines = [
        f"## {subject.title}\n",
        f"Reported by {_join(subject.commands)}, unless the meaning names other commands.\n"
        if any(entry.commands for entry in subject.entries)
        else f"Reported by {_join(subject.commands)}.\n",
        "| code | severity | meaning | action |",
        "| --- | --- | --- | --- |",
    ]
    for entry in subject.entries:
        meaning = f"{entry.meaning} Reported by {_join(entry.commands)}." if entry.commands else entry.meaning
        lines.append(f"| {_join(entry.codes)} | {', '.join(entry.severities)} | {meaning} | {entry.action} |")
    return "\n".join(lines) + "\n"


def _join(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
