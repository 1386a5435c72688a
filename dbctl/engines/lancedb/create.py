"""Create a table in a LanceDB, for sample databases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbctl.engines.lancedb.errors import translate_errors
from dbctl.engines.lancedb.location import Location
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa


def create_table(url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float) -> None:
    """Create an empty table in an existing folder.

    Args:
        url: the URL of the database.
        target: ``app/database``, for messages.
        table: the name of the table.
        columns: the type of each column: ``text``, ``number``, ``vector(768)`` of 32-bit floats, or ``object(a, b)`` of texts.
        timeout: seconds, as for a reader.

    Raises:
        DriverMissingError: the library is not installed.
    """
    location = Location(url, target, timeout=timeout)
    location.require_database()
    connection = location.connection
    import pyarrow as pa

    with translate_errors(location):
        connection.create_table(
            table, schema=pa.schema([(name, _arrow_type(type_name)) for name, type_name in columns.items()])
        )


def _arrow_type(type_name: str) -> pa.DataType:
    import pyarrow as pa

    if type_name in ("text", "number"):
        return pa.string() if type_name == "text" else pa.float64()
    match = re.fullmatch(r"(vector|object)\((.+)\)", type_name)
    if match is None:
        raise ValueError(type_name)
    if match[1] == "vector":
        return pa.list_(pa.float32(), int(match[2]))
    return pa.struct([(name.strip(), pa.string()) for name in match[2].split(",")])
