"""Roles of text on a terminal, with their colors and signs: nothing depends on the color alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from dbctl.errors.base import DbctlError

Role: TypeAlias = Literal["ok", "due", "error", "destructive", "dim", "command", "heading"]

#: The style of each role in the notation of rich. Only the colors of the terminal's own palette are used, which its user can read.
STYLES: Mapping[Role, str] = {
    "ok": "green",
    "due": "yellow",
    "error": "bold red",
    "destructive": "bold magenta",
    "dim": "dim",
    "command": "cyan",
    "heading": "bold",  # no color: names of columns and fields
}

#: Signs, each with the text for an encoding that lacks it.
SIGNS: Mapping[str, str] = {"✓": "yes", "·": "no", "✗": "x", "…": "...", "→": "->", "▶": ">"}

#: The role and the sign of each severity of a finding.
SEVERITIES: Mapping[str, tuple[Role, str]] = {
    "error": ("error", "✗"),
    "warning": ("due", "!"),
    "info": ("dim", "·"),
}

#: The role of each value of ``STATE_COLUMNS``; codes of errors are also errors.
STATES: Mapping[str, Role] = {
    **dict.fromkeys(
        ["ok", "applied", "baseline", "current", "done", "valid", "readable", "active", "completed"], "ok"
    ),
    **dict.fromkeys(
        ["pending", "due", "overdue", "out-of-order", "unrecorded", "stale", "missing", "warning", "skipped", "waiting"], "due"
    ),
    **dict.fromkeys(
        ["failed", "broken", "changed", "missing-file", "ahead", "duplicate-version", "inconsistent", "invalid", "error"], "error"
    ),
    **dict.fromkeys(["retired", "expired", "revoked", "info", "none"], "dim"),
}  # fmt: skip
STATE_COLUMNS = frozenset({"state", "severity", "migrations", "cleanup", "result", "outcome", "status"})
#: The role of any value in a column that is empty if all is well.
PROBLEM_COLUMNS: Mapping[str, Role] = {"due": "due", "problem": "error", "not copied": "error"}
#: Values without content.
EMPTY_VALUES = frozenset({"-", "no", "0 B", "NULL", "''"})

_COUNT = re.compile(r"\d+ ")
#: A command in a sentence: the program, the words of the command, and its options and placeholders.
COMMAND = re.compile(
    r"(?<!\S)(?:\S*/)?dbctl [a-z][a-z-]*(?: [a-z][a-z-]*)?"
    r"(?: (?:--?[a-z][\w-]*(?:[ =][\w/](?:[^\s,;)]*[^\s,;).])?)?|[A-Z]+\b))*"
)


def find_role(name: str, text: str) -> Role | None:
    """Return the role of the value ``text`` of the field ``name``."""
    if text in EMPTY_VALUES:
        return "dim"
    if name in PROBLEM_COLUMNS:
        return PROBLEM_COLUMNS[name]
    if name not in STATE_COLUMNS:
        return None
    state = _COUNT.sub("", text, count=1)  # "12 pending"
    return STATES.get(state) or ("error" if state in DbctlError.registry else None)
