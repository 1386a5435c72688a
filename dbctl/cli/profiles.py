"""``dbctl profiles``: list the profiles that exist."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.session import Session
from dbctl.model import Page
from dbctl.services import profiles
from dbctl.spec import EVERYWHERE, Example

GROUP = Group("profiles", section="Set up", position=4, help="List the profiles of apps.")


@Example("profiles list", on=EVERYWHERE)
@Example("profiles list -o json")
@GROUP.command("list", answers=lambda: (Page[profiles.ProfileListed],))
def list_(session: Session) -> int:
    """List the profiles that commands find by name, with their origin.

    Besides the built-in ones, these are the files NAME.toml in the folder profiles of the configuration directories of
    the user and of the system, and those of installed extensions.
    """
    return emit(session, profiles.list_profiles())
