"""``dbctl search vectors``: the vectors behind a search by meaning."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import carry_out, contents, opened
from dbctl.cli._support.emit import change, progress
from dbctl.cli._support.options import DryRun, whole
from dbctl.services.search.semantic import LARGEST, store_vector

app = typer.Typer(
    name="search vectors",
    help="The vectors behind a search by meaning.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _limit(text: str) -> int:
    return whole(text, 1)


@app.command()
def store(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="ID", help="The row, such as a message.")],
    vector: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Its vector: JSON, a number a line, or 32-bit numbers; - is standard input."
        ),
    ],
    dry_run: DryRun = False,
) -> int:
    """Store a ready vector for a row; asks first where the row has a vector, which is replaced."""
    raw = contents(vector, "vector", most=LARGEST)
    with opened(ctx) as found:
        return carry_out(ctx, store_vector.store_vector(found, key, raw))


@app.command()
def make(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Only rows of this user.")] = None,
    chat: Annotated[str | None, typer.Option("--chat", metavar="ID", help="Only rows of this chat.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", parser=_limit, metavar="N", help="Make at most so many vectors.")
    ] = 1000,
    dry_run: DryRun = False,
) -> int:
    """Make the vectors that are missing, by the embedder of the configuration, which gets the text of each row.

    A few rows are written at a time. Where the embedder fails, the vectors that were made stay; run it again to go on.
    """
    from dbctl.services.search.semantic import VectorMaking

    filters = {name: value for name, value in (("user", user), ("chat", chat)) if value is not None}
    with opened(ctx) as found, progress(ctx, "Making vectors", lambda: work.total) as advance:
        work = VectorMaking(found, filters=filters, limit=limit, advance=advance)
        return change(ctx, work, target=work.target)
