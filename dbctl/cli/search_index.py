"""``dbctl search index``: full-text and vector indexes of searches."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING, Annotated, TypeAlias

from dbctl.cli._support.emit import emit, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.model import Findings, Page
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.search.indexes.base import IndexAction, IndexChangeResult, IndexStatus


GROUP = Group("search index", section="Inspect", position=9, help="Full-text and vector indexes of searches.")

SearchName: TypeAlias = Annotated[
    str,
    argument(
        "[SEARCH]",
        "Name of a search of the profile, such as games (Flashpoint Web) or prompts (PromptVault), or semantic for vectors.",
    ),
]


@Example("search index status", on="custom samples")
@Example("search index status games -o json")
@GROUP.command("status", answers=lambda: (Page[IndexStatus],), fleet=Fleet())
def status(session: Session, name: SearchName = "") -> int:
    """Show which searches have a full-text index, and whether it is usable."""
    from dbctl.services.search.indexes.selection import read_statuses

    with session.open_app() as app:
        return emit(session, read_statuses(app, name), target=app.name)


@Example("search index check games")
@Example("search index check", on=EVERYWHERE)
@GROUP.command(
    "check",
    answers=lambda: (Findings,),
    writes=Write(source="schema", audited=False),
    findings=True,
    fleet=Fleet(resumes=True),
)
def check(
    session: Session,
    name: SearchName = "",
    full: Annotated[
        bool, flag("--full", "Compare an external index with a rebuilt one, not only with 1,000 rows.")
    ] = False,
) -> int:
    """Compare the index with its definition, and every entry with its row; exit 4 on an error."""
    from dbctl.services.search.indexes.selection import check

    with session.open_app() as app:
        findings = check(app, name, full=full)
        return emit(session, findings, status=findings.status, target=app.name)


@Example("search index build", on="custom samples", needs=("search index drop",))
@Example("search index build --dry-run", on="custom")
@GROUP.command(
    "build", answers=lambda: (IndexChangeResult,), writes=Write(source="schema"), fleet=Fleet(resumes=True)
)
def build(
    session: Session,
    name: SearchName = "",
    cache: Annotated[
        bool,
        flag(
            "--cache",
            "Store the index of a read-only database in the user's cache folder, not next to the database.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Build the index if it is missing; an invalid one requires repair.

    The index of a read-only database is a separate file next to it, which is rebuilt after the database changed.
    """
    return _change_index(session, name, "build", cache=cache, dry_run=dry_run)


@Example("search index repair", on="custom samples")
@Example("search index repair games --dry-run")
@GROUP.command("repair", answers=lambda: (IndexChangeResult,), writes=Write(source="schema"))
def repair(session: Session, name: SearchName = "", dry_run: DryRun = False) -> int:
    """Replace an index that is invalid or differs from its rows; the new one is verified first."""
    return _change_index(session, name, "repair", dry_run=dry_run)


@Example("search index drop {search} --dry-run")
@Example("search index drop {search} --yes", on="custom")
@GROUP.command("drop", answers=lambda: (IndexChangeResult,), writes=Write(source="schema"))
def drop(session: Session, name: SearchName = "", dry_run: DryRun = False) -> int:
    """Drop the index with its triggers or its file; dbctl search index build creates it again."""
    return _change_index(session, name, "drop", dry_run=dry_run)


def _change_index(
    session: Session, name: str, action: "IndexAction", *, dry_run: bool, cache: bool = False
) -> int:
    from dbctl.services.search.indexes.selection import create_change

    with session.open_app() as app:
        return run_change(session, create_change(app, name, action, cache=cache), dry_run=dry_run)
