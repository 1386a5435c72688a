"""The packages of dbctl: what they export, how large they are, and the docstring of each."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import dbctl
from tools.exports import read_tables

ROOT = Path(dbctl.__file__).parent
PACKAGES = sorted(path.parent for path in ROOT.rglob("__init__.py"))
#: Size of a folder that remains easy to survey.
MAX_MODULES = 16
#: ``cli`` has one module for each command group, with the name of the group.
LARGE_PACKAGES = {"cli"}
TABLES = {path: table for path, _, table in read_tables()}


def package_name(path):
    return ".".join(path.relative_to(ROOT.parent).parts)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: package_name(path.parent))
def test_package_exports_the_names_of_its_type_checking_imports(path):
    package, table = package_name(path.parent), TABLES[path]
    imports = {
        node.module.removeprefix(f"{package}."): {alias.name for alias in node.names}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}.")
    }
    assert imports == {module: set(names.split()) for module, names in table.items()}
    imported_package = import_module(package)
    for module, names in table.items():
        for name in names.split():
            assert getattr(imported_package, name) is getattr(import_module(f"{package}.{module}"), name)


@pytest.mark.parametrize("path", PACKAGES, ids=package_name)
def test_package_has_a_docstring_and_few_modules(path):
    assert ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8")))
    modules = [file for file in path.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES or path.name in LARGE_PACKAGES
