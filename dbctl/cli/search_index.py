"""``dbctl search index``: the index behind a search."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import opened
from dbctl.cli._support.emit import change, emit
from dbctl.cli._support.options import DryRun
from dbctl.errors import Exit
from dbctl.services.search import indexes

app = typer.Typer(
    name="search index",
    help="The index behind a search.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

What: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="[WHAT]",
        help="Whose index: games (Flashpoint Web), prompts (PromptVault), semantic (vectors), or as the profile calls it.",
    ),
]


@app.command()
def status(ctx: typer.Context, name: What = "") -> int:
    """Show which searches have an index of words, and whether it can be used."""
    with opened(ctx) as found:
        return emit(ctx, indexes.standings(found, name), target=found.name)


@app.command()
def check(
    ctx: typer.Context,
    name: What = "",
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Compare an index in a file of its own with one that is made anew, not with 1,000 rows.",
        ),
    ] = False,
) -> int:
    """Compare the index with what it should be, and every entry with its row; exit 4 on an error."""
    with opened(ctx) as found:
        findings = indexes.check(found, name, whole=whole)
        return emit(ctx, findings, status=Exit.UNSOUND if findings.unsound else Exit.OK, target=found.name)


@app.command()
def build(
    ctx: typer.Context,
    name: What = "",
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Make one of a read-only database in this user's folder for caches, not beside the database.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Make the index where it is missing; one that is of no use is left to repair. That of a read-only database is a file beside it, which is made anew wherever the database was changed since."""
    with opened(ctx) as found:
        made = indexes.change_of(found, name, "build", cache=cache)
        return change(ctx, made, target=made.target)


@app.command()
def repair(ctx: typer.Context, name: What = "", dry_run: DryRun = False) -> int:
    """Replace an index that is of no use, or does not agree with its rows, by a sound one; proven before it stays."""
    with opened(ctx) as found:
        made = indexes.change_of(found, name, "repair")
        return change(ctx, made, target=made.target)


@app.command()
def drop(ctx: typer.Context, name: What = "", dry_run: DryRun = False) -> int:
    """Drop the index, and the triggers or the file that keep it. Build makes it again."""
    with opened(ctx) as found:
        made = indexes.change_of(found, name, "drop")
        return change(ctx, made, target=made.target)
