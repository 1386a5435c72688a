"""The packages of dbctl: what they export, how large they are, and the docstring of each."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import dbctl
from tools import smell

ROOT = Path(dbctl.__file__).parent
PACKAGES = sorted(path.parent for path in ROOT.rglob("__init__.py"))
#: Size of a folder that remains easy to survey.
MAX_MODULES = 16
#: ``cli`` has one module for each command group, with the name of the group.
LARGE_PACKAGES = {"cli"}
#: Size of a module that a reader understands as a whole.
MAX_LINES = 400
#: Longer modules; their docstrings have the reason.
LONG_MODULES = {
    "cli/data.py", "cli/users.py", "services/app/user_table.py",
}  # fmt: skip


def package_name(path):
    return ".".join(path.relative_to(ROOT.parent).parts)


def list_exports(path):
    """Return the imports in the block of ``lazy_imports`` of a package: names by module."""
    for node in ast.parse((path / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.With):
            assert all(isinstance(statement, ast.ImportFrom) for statement in node.body)
            return {
                statement.module: [alias.name for alias in statement.names if not alias.asname]
                for statement in node.body
            }
    return {}


def test_wheel_contains_dbctl_alone():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["dbctl"]


@pytest.mark.parametrize("path", [path for path in PACKAGES if list_exports(path)], ids=package_name)
def test_package_exports_the_names_of_its_modules(path):
    package = import_module(package_name(path))
    for module, names in list_exports(path).items():
        assert module.rpartition(".")[0] == package.__name__
        for name in names:
            assert getattr(package, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError):
        package.absent_name  # noqa: B018 - a name that no package exports


def test_lazy_import_loads_the_module_of_a_name_when_it_is_used():
    code = (
        "import builtins, sys; original = builtins.__import__; import dbctl.stores\n"
        "assert builtins.__import__ is original and 'dbctl.stores.overlay' not in sys.modules\n"
        "assert 'OverlayStore' not in vars(dbctl.stores)\n"
        "assert dbctl.stores.OverlayStore is sys.modules['dbctl.stores.overlay'].OverlayStore"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", PACKAGES, ids=package_name)
def test_package_has_a_docstring_and_few_modules(path):
    assert ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8")))
    modules = [file for file in path.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES or path.name in LARGE_PACKAGES


def test_few_modules_are_long_and_each_states_the_reason():
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")
    }
    long = {name: text for name, text in texts.items() if text.count("\n") > MAX_LINES}
    assert long.keys() == LONG_MODULES
    assert len(long) <= 4
    for text in long.values():
        assert f"Over {MAX_LINES} lines: " in ast.get_docstring(ast.parse(text))


def test_packages_are_within_their_limits():
    assert list(smell.find_excesses(smell.measure_packages(), smell.read_budgets())) == []


def test_larger_and_unknown_packages_are_reported():
    sizes, budgets = smell.measure_packages(), dict(smell.read_budgets())
    budgets["errors"] = smell.Budget(sizes["errors"].lines * 100 // 104, 0)
    del budgets["files"]
    budgets["absent"] = smell.Budget(1, 0)
    assert [text.split()[0] for text in smell.find_excesses(sizes, budgets)] == ["errors", "files", "absent"]
