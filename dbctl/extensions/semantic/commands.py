"""``dbctl search semantic``: find rows by vector similarity."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import Limit, read_file
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.extensions.semantic import search
from dbctl.extensions.semantic.search import Reference, SemanticRequest
from dbctl.extensions.semantic.vector_input import MAX_BYTES
from dbctl.model import Page
from dbctl.render.streams import Format
from dbctl.spec import Example

GROUP = Group("search semantic", section="Inspect", position=8, help="Semantic search (vector similarity).")


def _parse_similarity(text: str) -> float:
    try:
        similarity = float(text)
    except ValueError:
        similarity = math.nan
    if not -1 <= similarity <= 1:
        raise typer.BadParameter(f"{text!r} is not a similarity; write a number from -1 to 1")
    return similarity


@Example("search semantic --text 'lost password' --limit 10")
@Example("search semantic --similar-to 42 --min-similarity 0.8", on="custom")
@GROUP.command(answers=lambda: (Page[dict[str, Any]],))
def semantic(
    session: Session,
    similar_to: Annotated[
        str | None,
        option(
            "--similar-to", "ID", "Find rows similar to this row, by its stored vector; no embedder is used."
        ),
    ] = None,
    vector: Annotated[
        Path | None,
        option(
            "--vector",
            "FILE",
            "Find rows similar to this vector: JSON, one number per line, or 32-bit floats; - is standard input.",
        ),
    ] = None,
    text: Annotated[
        str | None, option("--text", "WORDS", "Find rows similar to this text, with the configured embedder.")
    ] = None,
    user: Annotated[str | None, option("--user", "ID", "Show only rows of this user.")] = None,
    chat: Annotated[str | None, option("--chat", "ID", "Show only rows of this chat.")] = None,
    limit: Limit = 5,
    min_similarity: Annotated[
        float | None,
        option(
            "--min-similarity",
            "X",
            "Show only rows with at least this similarity: 1 is identical, 0 unrelated.",
            _parse_similarity,
        ),
    ] = None,
    index: Annotated[bool, flag("--index", "Use an index, if any: faster, but approximate.")] = False,
) -> int:
    """Find rows with similar vectors; pass one of --similar-to, --vector and --text.

    Every vector is compared unless --index is passed. The row of --similar-to is not part of the result.
    """
    if (similar_to, vector, text).count(None) != 2:  # noqa: PLR2004 - exactly one of three
        raise UsageError(detail="pass exactly one of --similar-to, --vector and --text")
    vector_bytes = None if vector is None else read_file(vector, "vector", limit=MAX_BYTES)
    request = SemanticRequest(
        reference=Reference(row=similar_to, file=vector_bytes, text=text),
        filters={name: value for name, value in (("user", user), ("chat", chat)) if value is not None},
        limit=limit,
        min_similarity=min_similarity,
        use_index=index,
    )
    with session.open_app() as app:
        output = session.output_options
        is_table = output.format is Format.TABLE and sys.stdout.isatty()
        result = search.find(app, request, columns=output.columns, summary=is_table)
        for problem in result.problems:
            warn(session, problem)
        for message in result.notes:
            note(session, message)
        target = app.target(app.used[0]) if app.used else app.name
        return emit(session, result.page, status=result.status, target=target)
