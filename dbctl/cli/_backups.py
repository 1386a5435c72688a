"""What ``backup`` and ``restore`` read from the command line alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._run import progress

RepositoryAt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--repository", metavar="DIR", help="Where the backups are, in place of the configured one."
    ),
]
Which: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="A backup by id, or latest.")]

MEGABYTE = 1_000_000


@contextmanager
def copying(ctx: typer.Context, label: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show how much of ``size`` bytes was moved; gives ``advance(bytes)``."""
    with progress(ctx, f"{label} (MB)", size / MEGABYTE) as advance:
        yield lambda moved: advance(moved / MEGABYTE)
