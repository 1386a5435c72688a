"""``dbctl undo``: revert an operation of the audit log."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated

import typer
from msgspec import structs

from dbctl.cli._support.emit import run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, parse_positive
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.services.events.changes.operations import show_operation
from dbctl.services.undo.operation import Undone, undo_operation
from dbctl.spec import EVERYWHERE, Example, Write

GROUP = Group(
    "undo", section="Change", position=6, help="Revert a recorded change of users, roles, settings or rows."
)


@Example("undo {operation} --dry-run", on=EVERYWHERE, needs=("settings set {setting} {value}",))
@Example("undo {operation} --yes", on="flashpoint-web custom", needs=("settings set {setting} {value}",))
@GROUP.command(answers=lambda: (Undone,), writes=Write(source="generated", facts=("audit",), undo=True))
def undo(
    session: Session,
    operation: Annotated[
        int,
        typer.Argument(
            parser=parse_positive, metavar="OPERATION", help="Number of an operation of dbctl audit list."
        ),
    ],
    moved: Annotated[
        bool, flag("--moved", "The databases have other addresses than when they were changed.")
    ] = False,
    without_secrets: Annotated[
        bool, flag("--without-secrets", "Restore deleted rows that had secrets without them.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Revert a change of users, roles, settings or rows, if nothing has changed the rows since.

    Ended sessions and secrets, such as password hashes, are not restored: the audit log does not contain them.
    """
    selection = session.selection
    details = show_operation(session.journal.require_folder(), operation, is_verified=True)
    if not selection.app:
        selection = structs.replace(selection, app=details.app)
    with session.open_app(selection) as opened:
        change = undo_operation(opened, details, is_moved=moved, without_secrets=without_secrets)
        return run_change(session, change, dry_run=dry_run)
