"""Write the ``__init__`` of each package that exports names from the table in it (``python -m tools.exports``).

To export a name, add it to the table of its package (module: names, separated by spaces) and run this script.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap

PACKAGE = Path(__file__).parents[1] / "dbctl"
WIDTH = 100  #: characters of names in a line of a table


def read_tables(root: Path = PACKAGE) -> Iterator[tuple[Path, str, Mapping[str, str]]]:
    """Yield each package that exports names: its ``__init__``, docstring, and table."""
    for path in sorted(root.rglob("__init__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "lazy_exports"
            ):
                yield path, ast.get_docstring(tree) or "", ast.literal_eval(node.args[1])


def render(package: str, docstring: str, table: Mapping[str, str]) -> str:
    """Return the text of the ``__init__`` of a package."""
    modules = sorted(module for module, names in table.items() if names.split())
    imports = [
        f"    from {package}.{module} import {', '.join(sorted(table[module].split()))}\n"
        for module in modules
    ]
    rows = []
    for module in modules:
        lines = wrap(" ".join(sorted(table[module].split())), WIDTH, break_on_hyphens=False)
        texts = [f'"{line}{" " if line is not lines[-1] else ""}"' for line in lines]
        rows.append(
            f'            "{module}": {texts[0] if len(texts) == 1 else "(" + " ".join(texts) + ")"},\n'
        )
    return (
        f'"""{docstring}{chr(10) if chr(10) in docstring else ""}"""\n\nfrom typing import TYPE_CHECKING\n\nfrom dbctl.exports import lazy_exports\n\n'
        f"if TYPE_CHECKING:\n{''.join(imports)}else:\n"
        f"    __getattr__ = lazy_exports(\n        __name__,\n        {{\n{''.join(rows)}        }},\n    )\n"
    )


def main() -> None:
    """Write the packages, in the form that ruff gives them."""
    paths = []
    for path, docstring, table in read_tables():
        package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        path.write_text(render(package, docstring, table), encoding="utf-8")
        paths.append(str(path))
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--quiet", "--fix", "--select", "I", *paths], check=True)
    subprocess.run([*ruff, "format", "--quiet", *paths], check=True)


if __name__ == "__main__":
    main()
