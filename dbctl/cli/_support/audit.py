"""Record the changes of a command in the audit log."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import typer

from dbctl.cli._support.app import read_selection
from dbctl.cli._support.command_text import CommandText
from dbctl.cli._support.emit import ANCHOR, RUN_ID, warn
from dbctl.cli._support.options import RUN, command_path
from dbctl.config import user_name
from dbctl.errors import DbctlError, JournalCorruptError, JournalUnavailableError
from dbctl.services.audit import AuditLog, Author, OperationRecorder, parse_anchor
from dbctl.services.events.location import locate_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dbctl.services.app import App
    from dbctl.services.audit import Anchor


def create_recorder(ctx: typer.Context, app: App) -> OperationRecorder:
    """Return the recorder for the changes of a command."""
    location = locate_journal(read_selection(ctx))
    run = ctx.meta.get(RUN)
    author = Author(
        user=user_name(),
        sudo_user=os.environ.get("SUDO_USER", ""),
        acting_as=app.acting_as,
        host=os.uname().nodename,
        command=" ".join(command_path(ctx)),
        arguments=CommandText(ctx).arguments,
        config=location.config,
        run=run.id if run else ctx.meta.get(RUN_ID),
    )
    return OperationRecorder(
        open_log(location.folder) if location.folder else None,
        author,
        location.audit,
        app=app.name,
        warn=run.report_audit_failure if run else partial(warn, ctx),
        receive_anchor=run.set_anchor if run else partial(_store_anchor, ctx),
    )


def open_log(folder: Path) -> AuditLog:
    """Return the audit log of a directory for state."""
    return AuditLog(folder, read_anchor=partial(_read_anchor, folder))


def _read_anchor(folder: Path) -> Anchor | None:
    from dbctl.services.events.history import read_newest_anchor

    return parse_anchor(read_newest_anchor(folder))


def _store_anchor(ctx: typer.Context, anchor: Anchor) -> None:
    """Store the end of the log for the run that works on a fleet; other commands without a run ignore it."""
    ctx.meta[ANCHOR] = str(anchor)


def require_folder(ctx: typer.Context) -> Path:
    """Return the folder of the audit log, which is that of the journal.

    Raises:
        JournalDisabledError: nothing is recorded.
    """
    return locate_journal(read_selection(ctx)).require_folder()


def read_anchors(folder: Path, text: str) -> tuple[Sequence[Anchor], DbctlError | None]:
    """Return the ends of the log in the journal and that of an option, and why the former are not known, if so.

    Raises:
        BadParameter: the option is no anchor.
    """
    from dbctl.services.events.history import list_anchors

    try:
        anchors, journal_error = [parse_anchor(line) for line in list_anchors(folder)], None
    except (JournalUnavailableError, JournalCorruptError) as error:
        anchors, journal_error = [], error
    if text:
        anchor = parse_anchor(text)
        if anchor is None:
            raise typer.BadParameter(f"{text!r} is not SEQUENCE:HASH", param_hint="'--anchor'")
        anchors.append(anchor)
    return [anchor for anchor in anchors if anchor], journal_error
