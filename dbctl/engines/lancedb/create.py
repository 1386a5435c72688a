"""A new table of a LanceDB: what nobody but an app makes otherwise, for samples of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbctl.engines.lancedb.errors import translated
from dbctl.engines.lancedb.location import Place
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa


def make_table(url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float) -> None:
    """Make an empty table; its folder is there.

    Args:
        url: where the database is.
        target: ``app/database``, for messages.
        table: its name.
        columns: what each holds: ``text``, ``number``, ``vector(768)`` of so many small floats, or ``object(a, b)`` of texts.
        timeout: as for a reader.

    Raises:
        DriverMissingError: the library is not installed.
    """
    place = Place(url, target, timeout=timeout)
    place.want()
    connection = place.connection
    import pyarrow as pa

    with translated(place):
        connection.create_table(
            table, schema=pa.schema([(name, _type(told)) for name, told in columns.items()])
        )


def _type(told: str) -> pa.DataType:
    import pyarrow as pa

    if told in ("text", "number"):
        return pa.string() if told == "text" else pa.float64()
    found = re.fullmatch(r"(vector|object)\((.+)\)", told)
    if found is None:
        raise ValueError(told)
    if found[1] == "vector":
        return pa.list_(pa.float32(), int(found[2]))
    return pa.struct([(name.strip(), pa.string()) for name in found[2].split(",")])
