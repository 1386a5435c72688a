"""Comparisons of texts that a derived schema changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.contract.portable import PortableTable


def find_distinguished(
    table: PortableTable, folded: Collection[str], *, ignores_accents: bool
) -> Mapping[str, Sequence[str]]:
    """Return what comparisons distinguish in the derived table, but not in the source: ``case`` and ``accents``, with the columns.

    Args:
        table: the table of the source.
        folded: columns that ignore case in the derived table.
        ignores_accents: these columns also ignore accents.
    """
    names = {
        "case": [
            column.name for column in table.columns if column.ignores_case and column.name not in folded
        ],
        "accents": [
            column.name
            for column in table.columns
            if column.ignores_accents and not (ignores_accents and column.name in folded)
        ],
    }
    return {word: columns for word, columns in names.items() if columns}
