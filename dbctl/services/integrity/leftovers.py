"""Detect what killed processes left: a restore between two databases of an app, and temporary files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import BusyError, DbctlError
from dbctl.model import Finding, format_size
from dbctl.services.app import App, command_line

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
                    .lock(app.spec.name, timeout=0)
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


def find_leftover_files(app: App, database: str) -> Iterator[Finding]:
    """Yield temporary files next to a database that no dbctl process uses; the hint removes them."""
    paths = app.engine(database).find_leftovers(app.url(database))
    if paths:
        names = ", ".join(map(str, paths))
        size = format_size(sum(_list_sizes(paths)))
        message = f"{names} ({size}) {'is' if len(paths) == 1 else 'are'} left over from a dbctl process that was killed"
        hint = command_line.command_for_owner(paths[0].lstat().st_uid, ["rm", "-r", *map(str, paths)])
        yield Finding(app.target(database), "warning", "leftover-files", message, hint)


def _list_sizes(paths: Sequence[Path]) -> Iterator[int]:
    for path in paths:
        for entry in (path, *path.rglob("*")):
            with suppress(OSError):  # the file may be removed concurrently
                yield entry.lstat().st_size
