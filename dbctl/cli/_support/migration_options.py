"""Options of ``dbctl migrate``; those after ``AlteredTable`` are the changes of ``migrate new --alter``."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

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
