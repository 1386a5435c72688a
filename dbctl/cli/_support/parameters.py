"""Parameters that several groups of commands share, and their values; those of ``dbctl migrate``; installation of bundled files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.options import parse_natural, parse_positive
from dbctl.errors.connection import FileExistsAlreadyError, FileFailedError
from dbctl.files.atomic import write_atomically
from dbctl.model import PageRequest

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.


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


def install_file(path: Path, text: str, mark: str) -> bool:
    """Write a file, and its missing folders; return False if it was already up to date.

    Raises:
        FileExistsAlreadyError: another file, without ``mark``, is in its place.
        FileFailedError: it cannot be written.
    """
    try:
        if path.exists():
            existing = path.read_text(encoding="utf-8", errors="replace")
            if existing == text:
                return False
            if mark not in existing:
                raise FileExistsAlreadyError(
                    path=path, hint="It was not created by dbctl; move it to another location first."
                )
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    with write_atomically(path, mode=0o644, replace=True) as file:
        file.write(text)
    return True


# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.


MigrationsFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--migrations", metavar="DIR", help="Use this folder of migrations instead of the configured one."
    ),
]
To: TypeAlias = Annotated[
    str, typer.Option("--to", metavar="NAME", help="Stop after this migration (name or number).")
]
Steps: TypeAlias = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="Limit to N migrations per database.")
]
NoBackup: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-backup",
        help="Create no safety backup before data is deleted; deleted data cannot be restored.",
    ),
]

AlteredTable: TypeAlias = Annotated[
    str,
    typer.Option(
        "--alter",
        metavar="TABLE",
        help="Write the rebuild of this table with the following changes (SQLite).",
    ),
]
RenamedColumns: TypeAlias = Annotated[
    list[str] | None, typer.Option("--rename-column", metavar="COLUMN=NAME", help="Rename a column.")
]
DroppedColumns: TypeAlias = Annotated[
    list[str] | None, typer.Option("--drop-column", metavar="COLUMN", help="Drop a column.")
]
ColumnTypes: TypeAlias = Annotated[
    list[str] | None, typer.Option("--type", metavar="COLUMN=TYPE", help="Change the type of a column.")
]
NotNullColumns: TypeAlias = Annotated[
    list[str] | None, typer.Option("--not-null", metavar="COLUMN", help="Make a column NOT NULL.")
]
NullableColumns: TypeAlias = Annotated[
    list[str] | None, typer.Option("--nullable", metavar="COLUMN", help="Allow NULL in a column.")
]
ColumnDefaults: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--default",
        metavar="COLUMN=VALUE",
        help="Set the default of a column: a number, a text, an (expression), or null for none.",
    ),
]
AddedForeignKeys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--add-foreign-key", metavar="COLUMN=TABLE.COLUMN", help="Add a foreign key, or replace one."
    ),
]
DroppedForeignKeys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--drop-foreign-key", metavar="COLUMN", help="Drop the foreign key of a column."),
]
