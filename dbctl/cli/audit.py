"""``dbctl audit``: the log of every change that dbctl made to a database of an app."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import structs

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option, parse_positive
from dbctl.cli._support.parameters import Limit, period_option
from dbctl.cli._support.session import Session
from dbctl.config.sections import Selection
from dbctl.errors.backup import RepositoryMissingError
from dbctl.errors.base import DbctlError
from dbctl.model import Page, time_before
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.services.events.changes import export as change_export
from dbctl.services.events.changes import operations, records
from dbctl.services.events.changes import verify as verification
from dbctl.services.events.changes.records import Anchor, parse_anchor
from dbctl.services.events.runs import locate_journal
from dbctl.services.events.store import FILE_NAME, storable_text
from dbctl.spec import EVERYWHERE, Example


def parse_anchors(text: str) -> Sequence[Anchor]:
    """Return the anchor of an option; ``-``: those in the text on standard input; empty: none.

    Raises:
        BadParameter: there is no anchor.
    """
    if not text:
        return []
    words = re.findall(r"[0-9]+:[0-9a-f:]+", sys.stdin.read()) if text == "-" else [text]
    anchors = [anchor for anchor in map(parse_anchor, words) if anchor]
    if not anchors:
        raise typer.BadParameter(f"{text!r} is no anchor: SEQUENCE:HASH:LOG", param_hint="'--anchor'")
    return anchors


def read_manifest_anchors(session: Session, folder: Path) -> tuple[Sequence[Anchor], Sequence[DbctlError]]:
    """Return the ends of the log in the manifests of the backups of all configured apps, and why some are not known."""
    selection, timeout = session.selection, session.options.timeout
    anchors, errors = list[Anchor](), list[DbctlError]()
    if not locate_journal(selection).config:
        return anchors, errors
    from dbctl.config import loader
    from dbctl.config.resolver import FleetSelection
    from dbctl.services.fleet.instances import list_instances

    try:
        apps = [FleetSelection(app) for app in loader.load(selection).apps.values() if app.backup]
        instances = list_instances(apps, timeout=timeout)
    except DbctlError as error:
        return anchors, [error]
    for instance in instances:
        if instance.problem:  # one with a name has no backups
            errors += [] if instance.name else [instance.problem]
            continue
        configured = structs.replace(selection, app=instance.app, configured=instance.configure())
        try:
            anchors += _read_repository(configured, folder, timeout)
        except RepositoryMissingError:  # there is no backup yet, or `backup status` reports it
            pass
        except DbctlError as error:
            errors.append(error)
    return anchors, errors


def _read_repository(selection: Selection, folder: Path, timeout: float) -> Iterator[Anchor]:
    from dbctl.services.app.session import open_app
    from dbctl.services.backup.repository import Repository

    with open_app(selection, timeout=timeout) as app:
        for manifest in Repository(app).manifests()[0]:
            # Another machine, or another directory for state, has another log.
            if manifest.audit and (manifest.host, manifest.audit.folder) == (
                os.uname().nodename,
                storable_text(str(folder)),
            ):
                anchor = parse_anchor(manifest.audit.anchor)
                if anchor:
                    yield anchor


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
        str, option("--command", "NAME", "Select operations of this command or group: users set-role, users.")
    ] = "",
    since: Annotated[
        timedelta | None, period_option("--since", "7d", "Select operations within this time.")
    ] = None,
    after: Annotated[
        int | None,
        option("--after", "OPERATION", "Continue after the last operation of a page.", parse_positive),
    ] = None,
    limit: Limit = 50,
) -> int:
    """List the recorded operations, newest first; --app NAME selects one app."""
    folder = session.journal.require_folder()
    selected = operations.OperationFilter(
        app=session.options.app,
        command=command,
        since=time_before(since) if since else None,
        after=after,
        limit=limit,
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
        list[Path] | None, argument("[FILE]...", "Exported copies of the log, or files of older versions.")
    ] = None,
    anchor: Annotated[
        str,
        option(
            "--anchor",
            "ANCHOR",
            "Require the end that an earlier verification printed; - reads ends from standard input, also among other text.",
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
