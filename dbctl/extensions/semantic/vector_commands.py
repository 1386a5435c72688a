"""``dbctl search vectors``: store and compute the vectors of semantic search."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.emit import run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option, parse_positive
from dbctl.cli._support.parameters import DryRun, read_file
from dbctl.cli._support.session import Session
from dbctl.extensions.semantic import store_vector
from dbctl.extensions.semantic.vector_input import MAX_BYTES
from dbctl.spec import Example, Write

if TYPE_CHECKING:
    from dbctl.extensions.semantic.make_vectors import MakeVectorsResult
    from dbctl.extensions.semantic.store_vector import VectorStored


GROUP = Group("search vectors", section="Inspect", position=10, help="Vectors of semantic search.")


@Example("search vectors store 42 vector.json")
@Example("search vectors store 42 - --dry-run")
@GROUP.command("store", answers=lambda: (VectorStored,), writes=Write(source="generated"))
def store(
    session: Session,
    key: Annotated[str, argument("ID", "Id of the row, such as a message.")],
    vector: Annotated[
        Path, argument("FILE", "Vector: JSON, one number per line, or 32-bit floats; - is standard input.")
    ],
    dry_run: DryRun = False,
) -> int:
    """Store a vector for a row; replacing an existing one requires confirmation."""
    vector_bytes = read_file(vector, "vector", limit=MAX_BYTES)
    with session.open_app() as app:
        return run_change(session, store_vector.store_vector(app, key, vector_bytes), dry_run=dry_run)


@Example("search vectors make --limit 100", on="custom")
@Example("search vectors make --chat 7 --dry-run")
@GROUP.command(
    "make",
    answers=lambda: (MakeVectorsResult,),
    writes=Write(source="generated", needs="the embedder and its key"),
)
def make(
    session: Session,
    user: Annotated[str | None, option("--user", "ID", "Process only rows of this user.")] = None,
    chat: Annotated[str | None, option("--chat", "ID", "Process only rows of this chat.")] = None,
    limit: Annotated[int, option("--limit", "N", "Compute at most N vectors.", parse_positive)] = 1000,
    dry_run: DryRun = False,
) -> int:
    """Compute missing vectors with the configured embedder, which receives the text of each row.

    Vectors are written in small batches. If the embedder fails, the stored ones remain; run the command again to
    continue.
    """
    from dbctl.extensions.semantic.make_vectors import MakeVectors

    filters = {name: value for name, value in (("user", user), ("chat", chat)) if value is not None}
    with session.open_app() as app:
        operation = MakeVectors(app, filters=filters, limit=limit)
        with show_progress(session, "computing vectors", lambda: operation.total, unit="rows"):
            return run_change(session, operation, dry_run=dry_run)
