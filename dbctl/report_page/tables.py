"""Tables that become lists of cards on narrow screens, and keep their roles there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dbctl.report_page.elements import Html, Node, element


class Column(NamedTuple):
    """A column of a table."""

    label: str
    is_number: bool = False
    is_wide: bool = False  #: whether its texts are long


def create_table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Node]]) -> Html:
    """Return a table; the first cell of each row is its header."""
    # A style that changes the display of a table removes its roles in some browsers, so they are explicit.
    heads = [
        element(
            "th",
            column.label,
            scope="col",
            role="columnheader",
            class_="number" if column.is_number else None,
        )
        for column in columns
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        element("tbody", *(_create_row(columns, row) for row in rows), role="rowgroup"),
        role="table",
    )


def _create_row(columns: Sequence[Column], row: Sequence[Node]) -> Html:
    cells = []
    for index, (column, content) in enumerate(zip(columns, row, strict=True)):
        kind = "number" if column.is_number else "wide" if column.is_wide else None
        if index:
            cells.append(element("td", content, role="cell", class_=kind, data_label=column.label))
        else:
            cells.append(element("th", content, scope="row", role="rowheader"))
    return element("tr", *cells, role="row")
