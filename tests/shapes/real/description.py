"""Describe a live schema compactly; ``python -m tests.shapes.real.description URL`` prints the description."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from dbctl import url
from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.services.migrations.drift import read_schema
from dbctl.services.migrations.schema_diff import describe_part

#: Tables that record migrations; they do not belong to the schema of an application.
LEDGERS = {"migrations", "schema_migrations", "_prisma_migrations", "_migrations"}
Description = Mapping[str, Mapping[str, Sequence[str]]]


def describe(database: Readable) -> Description:
    """Describe each table, view and trigger; equal schemas have equal descriptions."""
    schema = read_schema(database)
    description: dict[str, dict[str, Sequence[str]]] = {}
    for table in schema.tables:
        if table.name in LEDGERS:
            continue
        facts: dict[str, Sequence[str]] = {
            "columns": [f"{column.name} {describe_part(column)}" for column in table.columns],
            "key": table.key,
            "indexes": sorted(
                f"{index.name or 'constraint'} {describe_part(index)}" for index in table.indexes
            ),
            "references": sorted(map(describe_part, table.references)),
            "checks": table.checks,
            "options": table.options,
        }
        description[table.name] = {name: list(values) for name, values in facts.items() if values}
    for code in schema.codes:
        description[f"{code.kind} {code.name}"] = {"text": [code.text]}
    return description


def read_record(name: str) -> Description:
    """Return the recorded description of a real schema."""
    text = (Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


if __name__ == "__main__":
    address = url.parse_url(sys.argv[1])
    with closing(registry.load_engine(address.engine).open_for_reading(address, "real", timeout=5)) as opened:
        print(json.dumps(describe(opened), indent=1, sort_keys=True))
