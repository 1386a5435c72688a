"""``dbctl audit``: the log of every change that dbctl made to a database of an app."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from dbctl.cli._support.audit import parse_anchors, read_manifest_anchors
from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import parse_positive
from dbctl.cli._support.parameters import Limit, period_option
from dbctl.cli._support.session import Session
from dbctl.model import Page, time_before
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.services.events.changes import export as change_export
from dbctl.services.events.changes import operations, records
from dbctl.services.events.changes import verify as verification
from dbctl.services.events.store import FILE_NAME
from dbctl.spec import EVERYWHERE, Example

GROUP = Group(
    "audit",
    section="Automate",
    position=4,
    help="Audit log: who changed which rows, and whether it is intact.",
)


@Example("audit list --since 7d", on="custom samples", needs=("settings set {setting} {value}",))
@Example("audit list --command users --limit 10 -o json", on="flashpoint-web")
@GROUP.command("list", answers=lambda: (Page[records.Operation],), reads_log=True)
def list_(
    session: Session,
    command: Annotated[
        str,
        typer.Option(
            "--command",
            metavar="NAME",
            help="Select operations of this command or group: users set-role, users.",
        ),
    ] = "",
    since: Annotated[
        timedelta | None, period_option("--since", "7d", "Select operations within this time.")
    ] = None,
    limit: Limit = 50,
) -> int:
    """List the recorded operations, newest first; --app NAME selects one app."""
    folder = session.journal.require_folder()
    selected = operations.OperationFilter(
        app=session.options.app, command=command, since=time_before(since) if since else None, limit=limit
    )
    return emit(session, operations.list_operations(folder, selected), target=str(folder))


@Example("audit show {operation}", on=EVERYWHERE, needs=("settings set {setting} {value}",))
@Example("audit show {operation} -o json")
@GROUP.command("show", answers=lambda: (records.OperationDetails,), reads_log=True)
def show_(
    session: Session,
    operation: Annotated[
        int, typer.Argument(parser=parse_positive, metavar="OPERATION", help="Number of an operation.")
    ],
) -> int:
    """Show an operation with its rows before and after it; secrets are masked."""
    folder = session.journal.require_folder()
    return emit(session, operations.show_operation(folder, operation), target=str(folder))


@Example("audit verify", on=EVERYWHERE, needs=("settings set {setting} {value}",))
@Example("audit verify /archive/audit.jsonl")
@GROUP.command("verify", answers=lambda: (records.AuditChecked,), recorded=True, findings=True)
def verify(
    session: Session,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Exported copies of the log, or files of older versions."),
    ] = None,
    anchor: Annotated[
        str,
        typer.Option(
            "--anchor",
            metavar="ANCHOR",
            help="Require the end that an earlier verification printed; - reads ends from standard input, also among other text.",
        ),
    ] = "",
) -> int:
    """Check that no record of the log was edited, deleted or reordered; exit 4 if one was."""
    folder, stored = session.journal.require_folder(), parse_anchors(anchor)
    anchors, errors = read_manifest_anchors(session, folder)
    result = verification.verify_log(
        folder, anchors=anchors, errors=errors, others=files or (), stored=stored
    )
    return emit(session, result, status=result.status, target=str(folder / FILE_NAME))


@Example("audit export > audit.jsonl", on=EVERYWHERE, needs=("settings set {setting} {value}",))
@Example("audit export --since 812 > newest.jsonl")
@GROUP.command("export", answers=lambda: (Page[dict[str, Any]],), reads_log=True)
def export(
    session: Session,
    since: Annotated[
        int, typer.Option("--since", min=0, metavar="NUMBER", help="Select the records after this number.")
    ] = 0,
) -> int:
    """Print the records of the log as JSON Lines, the oldest first; their hashes remain valid."""
    folder = session.journal.require_folder()
    if session.options.output not in (Format.TABLE, Format.JSONL):
        return emit(session, change_export.export_records(folder, since=since), target=str(folder))
    for line in change_export.export_lines(folder, since=since):
        streams.write(line, utf8=True)
    return 0
