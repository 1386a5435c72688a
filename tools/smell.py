"""Lines and files of each package, compared with the limits of ``docs/design/budgets.md``.

``python -m tools.smell``; the exit status is 1 if a package is over its limit, or has none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/design/budgets.md"
#: Packages whose subpackages have limits of their own.
_GROUPS = ("engines", "extensions", "services")
#: A package may be larger than its limit by this factor, so that a correction needs no new limit.
TOLERANCE = 1.03
#: Modules with more lines may have a second subject.
MAX_LINES = 250
_ROW = re.compile(r"^\| `([\w./]+)` \| ([\d,]+) \| ([\d,]+|-) \|", re.MULTILINE)


class Size(NamedTuple):
    files: int
    lines: int


class Budget(NamedTuple):
    limit: int  #: lines that the package may have now
    target: int  #: lines after the redesign; 0: its modules move to other packages


def read_budgets() -> Mapping[str, Budget]:
    """Return the budgets by package, such as ``services/users``; ``dbctl`` has the modules that are in no package."""
    rows = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: Budget(_read_number(limit), _read_number(target)) for name, limit, target in rows}


def measure_packages() -> Mapping[str, Size]:
    """Return the sizes by package, with its subpackages."""
    sizes: dict[str, Size] = {}
    for path in sorted((ROOT / "dbctl").rglob("*.py")):
        name = _find_package(path)
        size = sizes.get(name, Size(0, 0))
        sizes[name] = Size(size.files + 1, size.lines + _count_lines(path))
    return sizes


def find_excesses(sizes: Mapping[str, Size], budgets: Mapping[str, Budget]) -> Iterator[str]:
    """Yield a sentence for each package over its limit, or without one."""
    for name, size in sizes.items():
        if name not in budgets:
            yield f"{name} has no limit in {PAGE.name}"
        elif size.lines > TOLERANCE * budgets[name].limit:
            yield f"{name} has {size.lines:,} lines, {size.lines - budgets[name].limit:,} more than its limit"
    yield from (f"{name} of {PAGE.name} does not exist" for name in budgets if name not in sizes)


def main() -> int:
    sizes, budgets = measure_packages(), read_budgets()
    extensions = [name for name in sizes if name.startswith("extensions/")]
    sums = {
        "core": [name for name in sizes if name not in extensions],
        **({"extensions": extensions} if extensions else {}),
    }
    print(f"{'package':24}{'files':>7}{'lines':>9}{'limit':>9}{'target':>9}")  # noqa: T201 - a script
    for name, size in sizes.items():
        limit, target = budgets.get(name, Budget(0, 0))
        print(f"{name:24}{size.files:7}{size.lines:9,}{limit:9,}{target:9,}")  # noqa: T201 - a script
    for title, names in sums.items():
        files, lines = (sum(values) for values in zip(*(sizes[name] for name in names), strict=True))
        limit, target = (
            sum(budgets.get(name, Budget(0, 0))[position] for name in names) for position in (0, 1)
        )
        print(f"{title:24}{files:7}{lines:9,}{limit:9,}{target:9,}")  # noqa: T201 - a script
    modules = sorted(((_count_lines(path), path) for path in (ROOT / "dbctl").rglob("*.py")), reverse=True)
    for lines, path in modules:
        if lines > MAX_LINES:
            print(f"{path.relative_to(ROOT)}: {lines} lines")  # noqa: T201 - a script
    excesses = list(find_excesses(sizes, budgets))
    sys.stderr.writelines(f"{excess}\n" for excess in excesses)
    return int(bool(excesses))


def _find_package(path: Path) -> str:
    folders = path.relative_to(ROOT / "dbctl").parts[:-1]
    return "/".join(folders[: 2 if folders[0] in _GROUPS else 1]) if folders else "dbctl"


def _count_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def _read_number(text: str) -> int:
    return 0 if text == "-" else int(text.replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
