"""Detect a restore that was interrupted between two databases of an app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dbctl.engines import registry
from dbctl.errors import BusyError, DbctlError
from dbctl.model import Finding
from dbctl.services.app import App

CODE = "restore-cut-off"
HINT = "Stop the app. dbctl restore undo goes back to what was before; the same restore again goes on."


def cut_off(app: App) -> Iterator[Finding]:
    """Yield the databases that a restore was about to replace, and never did; one that is at work is none."""
    for name, url in app.configured.databases.items():
        if app.only not in ("", name) or name not in app.profile.databases:
            continue
        target = app.target(name)
        with suppress(DbctlError):  # a command that opens it reports what is wrong with it
            if not registry.unfinished(url):
                continue
            try:
                with registry.write_lock(url, target, "integrity check", timeout=0):
                    pass
            except BusyError:
                continue
            others = [
                other
                for other in app.profile.databases
                if other != name and other in app.configured.databases
            ]
            message = "a restore was cut off before it was replaced"
            message += (
                f"; {', '.join(others)} may have been, so that they do not belong together" if others else ""
            )
            yield Finding(target=target, severity="error", code=CODE, message=message, hint=HINT)
