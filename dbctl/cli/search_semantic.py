"""``dbctl search semantic``: rows of an app by what they mean."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
import math
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import contents, opened
from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.options import call, whole
from dbctl.errors import UsageError
from dbctl.render import Format, is_terminal
from dbctl.services.search.semantic import LARGEST, Asked, Like, search

app = typer.Typer(name="search semantic", rich_markup_mode=None)


def _top(text: str) -> int:
    return whole(text, 1)


def _similarity(text: str) -> float:
    try:
        told = float(text)
    except ValueError:
        told = math.nan
    if not -1 <= told <= 1:
        raise typer.BadParameter(f"{text!r} is no similarity; it lies between -1 and 1")
    return told


@app.command("search semantic")
def semantic(
    ctx: typer.Context,
    similar_to: Annotated[
        str | None,
        typer.Option(
            "--similar-to",
            metavar="ID",
            help="Rows like this one, by the vector that it has; no model is asked.",
        ),
    ] = None,
    vector: Annotated[
        Path | None,
        typer.Option(
            "--vector",
            metavar="FILE",
            help="Rows near this vector: JSON, a number a line, or 32-bit numbers; - is standard input.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="WORDS", help="Rows that mean the like, by the embedder of the configuration."
        ),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Only rows of this user.")] = None,
    chat: Annotated[str | None, typer.Option("--chat", metavar="ID", help="Only rows of this chat.")] = None,
    top: Annotated[int, typer.Option("--limit", parser=_top, metavar="N", help="How many rows.")] = 5,
    least: Annotated[
        float | None,
        typer.Option(
            "--min-similarity",
            parser=_similarity,
            metavar="X",
            help="Only rows at least so alike: 1 is the same, 0 unrelated.",
        ),
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Ask an index where there is one: faster, and it may miss some.")
    ] = False,
) -> int:
    """Find rows by what they mean: give one of --similar-to, --vector and --text.

    Every vector is looked at unless --index is said. The row itself is not among those like it.
    """
    if (similar_to, vector, text).count(None) != 2:  # noqa: PLR2004 - one of three
        raise UsageError(detail="say what to look for by one of --similar-to, --vector and --text")
    raw = None if vector is None else contents(vector, "vector", most=LARGEST)
    asked = Asked(
        like=Like(row=similar_to, file=raw, text=text),
        filters={name: value for name, value in (("user", user), ("chat", chat)) if value is not None},
        top=top,
        least=least,
        index=index,
    )
    with opened(ctx) as found:
        look = call(ctx).look
        brief = look.format is Format.TABLE and is_terminal()
        told = search.find(found, asked, columns=look.columns, brief=brief)
        for trouble in told.troubles:
            warn(ctx, trouble)
        for remark in told.remarks:
            note(ctx, remark)
        target = found.target(found.used[0]) if found.used else found.name
        return emit(ctx, told.page, status=told.status, target=target)
