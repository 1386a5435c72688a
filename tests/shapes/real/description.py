"""A compact description of a live schema; run as a module, it prints that of the database at a URL."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from dbctl import url
from dbctl.engines import registry
from dbctl.engines.contract import Readable
from dbctl.services.migrations.drift import read_schema
from dbctl.services.migrations.schema_diff import describe_index, describe_part, describe_reference

#: Tables that record migrations; they are no part of an application's schema.
LEDGERS = {"migrations", "schema_migrations", "_prisma_migrations", "_migrations"}
Description = Mapping[str, Mapping[str, Sequence[str]]]


def describe(database: Readable) -> Description:
    """Return what the database reports of each table, view and trigger, in words that are the same for equal schemas."""
    schema = read_schema(database)
    description: dict[str, dict[str, Sequence[str]]] = {}
    for table in schema.tables:
        if table.name in LEDGERS:
            continue
        facts: dict[str, Sequence[str]] = {
            "columns": [f"{column.name} {describe_part(column)}" for column in table.columns],
            "key": table.key,
            "indexes": sorted(
                f"{index.name or 'constraint'} {describe_index(index)}" for index in table.indexes
            ),
            "references": sorted(map(describe_reference, table.references)),
            "checks": table.checks,
            "options": table.options,
        }
        description[table.name] = {name: list(values) for name, values in facts.items() if values}
    for code in schema.codes:
        description[f"{code.kind} {code.name}"] = {"text": [code.text]}
    return description


def recorded(name: str) -> Description:
    """Return the description that is kept of a real schema."""
    text = (Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


if __name__ == "__main__":
    with closing(registry.open_for_reading(url.parse_url(sys.argv[1]), "real", timeout=5)) as opened:
        print(json.dumps(describe(opened), indent=1, sort_keys=True))
