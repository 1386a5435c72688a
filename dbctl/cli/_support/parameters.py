"""Parameters that several groups of commands share, and their values."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.options import parse_natural, parse_positive
from dbctl.model import PageRequest


def require_address(ctx: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """Reject an explicit empty address, which a script may pass accidentally: it must not select the configured repository.

    Raises:
        BadParameter: the address is empty.
    """
    source = ctx.get_parameter_source(str(parameter.name))
    if not value.strip() and source is not None and source.name != "DEFAULT":
        raise typer.BadParameter("the address is empty")
    return value


DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show the plan without changing anything.")
]
#: For commands that create a schema, or compare with one.
Variant: TypeAlias = Annotated[
    str,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Select the variant of the schema for an empty database, if the app has several.",
    ),
]
#: The forms of the address of a repository, in texts of help.
ADDRESS_FORMS = "a directory, or s3://, az:// or gs://BUCKET/PREFIX"
RepositoryAddress: TypeAlias = Annotated[
    str,
    typer.Option(
        "--repository",
        callback=require_address,
        metavar="ADDRESS",
        help=f"Use this repository instead of the configured one: {ADDRESS_FORMS}.",
    ),
]
Limit: TypeAlias = Annotated[
    int, typer.Option("--limit", parser=parse_positive, metavar="N", help="Show at most N rows.")
]
Offset: TypeAlias = Annotated[
    int, typer.Option("--offset", parser=parse_natural, metavar="N", help="Skip the first N rows.")
]
Sort: TypeAlias = Annotated[
    str,
    typer.Option(
        "--sort", metavar="COLUMN", help="Sort by this column; -COLUMN or COLUMN:desc for descending order."
    ),
]


def requested_page(limit: int | None, offset: int, sort: str) -> PageRequest:
    """Return the requested page of a list; ``COLUMN:desc`` and ``-COLUMN`` are equivalent."""
    column, _, direction = sort.partition(":")
    if direction not in {"", "asc", "desc"} or (":" in sort and not direction):
        raise typer.BadParameter(f"{sort!r}: expected asc or desc after the colon", param_hint="'--sort'")
    descending = (direction == "desc") != column.startswith("-")
    column = column.removeprefix("-")
    if sort and not column:
        raise typer.BadParameter(f"{sort!r} has no column", param_hint="'--sort'")
    return PageRequest(limit=limit, offset=offset, sort="-" + column if descending else column)
