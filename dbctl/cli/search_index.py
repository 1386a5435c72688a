"""``dbctl search index``: the index of words behind a search."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from dbctl.cli._app import opened
from dbctl.cli._options import DryRun
from dbctl.cli._run import change, emit
from dbctl.errors import Exit
from dbctl.services import search_index
from dbctl.services.search_index import IndexChange

app = typer.Typer(
    name="search index",
    help="The index of words behind a search.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

What: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="[WHAT]", help="Whose index: prompts (PromptVault), or as the profile calls it."),
]


@app.command()
def status(ctx: typer.Context, name: What = "") -> int:
    """Show which searches have an index of words, and whether it can be used."""
    with opened(ctx) as found:
        return emit(ctx, search_index.standings(found, name), target=found.name)


@app.command()
def check(ctx: typer.Context, name: What = "") -> int:
    """Compare the index with what it should be, and every entry with its row; exit 4 on an error."""
    with opened(ctx) as found:
        findings = search_index.check(found, name)
        return emit(ctx, findings, status=Exit.UNSOUND if findings.unsound else Exit.OK, target=found.name)


@app.command()
def build(ctx: typer.Context, name: What = "", dry_run: DryRun = False) -> int:
    """Make the index where it is missing; one that is of no use is left to repair."""
    with opened(ctx) as found:
        made = IndexChange(found, name, "build")
        return change(ctx, made, target=made.target)


@app.command()
def repair(ctx: typer.Context, name: What = "", dry_run: DryRun = False) -> int:
    """Replace an index that is of no use, or does not agree with its rows, by a sound one; proven before it stays."""
    with opened(ctx) as found:
        made = IndexChange(found, name, "repair")
        return change(ctx, made, target=made.target)


@app.command()
def drop(ctx: typer.Context, name: What = "", dry_run: DryRun = False) -> int:
    """Drop the index and the triggers that keep it: they can be in the way of a migration. Build makes it again."""
    with opened(ctx) as found:
        made = IndexChange(found, name, "drop")
        return change(ctx, made, target=made.target)
