"""Run all benchmarks or the named ones; fail if a result misses its goal by more than the leeway."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.measure import LEEWAY, Area, format_area

#: Modules of this package, each with a ``measure``.
AREAS = (
    "startup",
    "create",
    "server_list",
    "users_import",
    "search",
    "search_index",
    "search_semantic",
    "backup",
    "backup_server",
    "increments",
    "integrity",
    "journal",
    "report",
    "cross",
    "cleanup",
    "migrate",
    "export",
    "fleet",
    "transfer",
    "data_diff",
    "copies",
    "learn",
    "reach",
)


def main(names: list[str]) -> int:
    """Measure, print a table per area, and return the exit code."""
    unknown = set(names) - set(AREAS)
    if unknown:
        print(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(AREAS)}", file=sys.stderr
        )
        return 2
    failed = False
    for name in names or AREAS:
        area: Area = import_module(f"benchmarks.{name}").measure()
        print(format_area(area), flush=True)
        failed = failed or not all(result.within(LEEWAY) for result in area.results)
    return int(failed)


sys.exit(main(sys.argv[1:]))
