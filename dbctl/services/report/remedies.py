"""The command that solves the problem of a finding."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

#: The commands of findings without a hint, by code.
_COMMANDS: Mapping[str, str] = {
    "backup-due": "dbctl backup create",
    "verification-due": "dbctl backup verify",
    "drill-due": "dbctl backup drill",
    "backup-shrunken": "dbctl stats history",
    "backup-incomplete": "dbctl backup prune",
    "backup-damaged": "dbctl backup verify",
    "manifest-unreadable": "dbctl backup verify",
    "migrations-pending": "dbctl migrate up",
    "ledger-missing": "dbctl migrate baseline",
    "migrations-inconsistent": "dbctl migrate verify",
    "cleanup-due": "dbctl sessions cleanup",
}


def find_remedy(code: str, hint: str, app: str) -> str:
    """Return the hint of a finding, otherwise a command for its app; empty: unknown."""
    command = _COMMANDS.get(code, "")
    return hint or (f"{command} --app {shlex.quote(app)}" if command else "")
