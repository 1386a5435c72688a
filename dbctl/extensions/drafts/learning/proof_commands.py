"""``dbctl profiles prove``: replay the recordings of a profile."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option
from dbctl.cli._support.session import Session
from dbctl.extensions.drafts.learning.commands import read_server
from dbctl.extensions.drafts.learning.recordings import Action
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.extensions.drafts.learning.proving import ProfileProved

GROUP = Group("profiles")


@Example("profiles prove app.toml")
@Example("profiles prove app.toml --dry-run")
@GROUP.command("prove", answers=lambda: (ProfileProved,), only_answers=False)
def prove(
    session: Session,
    profile: Annotated[Path, argument("PROFILE", "The file of the profile.")],
    action: Annotated[
        Action | None, option("--action", "ACTION", "Replay only the recordings of this action.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Compare only, and write no proofs to the profile.")
    ] = False,
) -> int:
    """Replay the recorded demonstrations of a profile with dbctl's own commands, and compare the rows.

    Each command changes a private copy of the state before the action. Its rows must be those that the app wrote, except for
    times, new keys, random values, and hashes of passwords of the same format. Exit 4 if they are not.

    The configuration of the app, as of --app, has the secret that it appends to passwords, if it does that.

    The section proven of the profile has the actions whose recordings all agree. A later change of the users, or of the settings, of
    the profile makes their proofs outdated.
    """
    from dbctl.extensions.drafts.learning import proving

    request = proving.ProveRequest(
        profile=profile,
        action=action,
        server=read_server(session),
        timeout=session.options.timeout,
        selection=session.selection,
        stored=not dry_run,
    )
    result = proving.prove(request)
    return emit(session, result, status=result.status)
