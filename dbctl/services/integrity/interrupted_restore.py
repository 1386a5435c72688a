"""Detect a restore that was interrupted between two databases of an app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dbctl.engines import registry
from dbctl.errors import BusyError, DbctlError
from dbctl.model import Finding
from dbctl.services.app import App

CODE = "restore-interrupted"
HINT = "Stop the app. Revert with dbctl restore undo, or continue by repeating the restore."


def find_interrupted_restore(app: App) -> Iterator[Finding]:
    """Yield the databases that an interrupted restore did not replace; a running restore is not reported."""
    for name, url in app.configured.databases.items():
        if app.only not in ("", name) or name not in app.profile.databases:
            continue
        target = app.target(name)
        with suppress(DbctlError):  # reported by commands that open the database
            if not registry.load_engine(url.engine).has_unfinished_restore(url):
                continue
            try:
                with (
                    registry.load_engine(url.engine)
                    .restore_target(url, target)
                    .lock("integrity check", timeout=0)
                ):
                    pass
            except BusyError:
                continue
            other_databases = [
                other
                for other in app.profile.databases
                if other != name and other in app.configured.databases
            ]
            message = "a restore was interrupted before it replaced this database"
            message += (
                f"; {', '.join(other_databases)} may have been replaced, so they may be inconsistent"
                if other_databases
                else ""
            )
            yield Finding(target, "error", CODE, message, HINT)
