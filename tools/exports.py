"""Write the typed imports of each package from the table of names that it exports (``python -m tools.exports``)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dbctl"


def read_tables(root: Path = PACKAGE) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield the ``__init__`` of each package that exports names, and its table: module to names, separated by spaces."""
    for path in sorted(root.rglob("__init__.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "lazy_exports"
            ):
                yield path, ast.literal_eval(node.args[1])


def typed_imports(package: str, table: Mapping[str, str]) -> str:
    """Return the block of imports that type checkers read."""
    lines = [
        f"    from {package}.{module} import {', '.join(table[module].split())}\n" for module in sorted(table)
    ]
    return f"if TYPE_CHECKING:\n{''.join(lines)}else:\n"


def write(path: Path, table: Mapping[str, str]) -> None:
    """Replace the block of typed imports of a package."""
    text = path.read_text(encoding="utf-8")
    start, end = text.index("if TYPE_CHECKING:\n"), text.index("else:\n") + len("else:\n")
    package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    path.write_text(text[:start] + typed_imports(package, table) + text[end:], encoding="utf-8")


def main() -> None:
    """Write the blocks of all packages, in the form that ruff gives them."""
    paths = []
    for path, table in read_tables():
        write(path, table)
        paths.append(str(path))
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--quiet", "--fix", "--select", "I", *paths], check=True)
    subprocess.run([*ruff, "format", "--quiet", *paths], check=True)


if __name__ == "__main__":
    main()
