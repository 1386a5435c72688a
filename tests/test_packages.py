"""The packages of dbctl: how large they are, and the docstring of each."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dbctl
from dbctl.extensions import registry
from tools import smell

ROOT = Path(dbctl.__file__).parent
PACKAGES = sorted(path.parent for path in ROOT.rglob("__init__.py"))
#: Size of a folder that remains easy to survey.
MAX_MODULES = 24
#: ``cli`` has one module for each command group, with the name of the group.
LARGE_PACKAGES = {"cli"}
#: Size of a module that a reader understands as a whole.
MAX_LINES = 460
#: Longer modules; their docstrings have the reason.
LONG_MODULES = {
    "cli/data.py", "cli/users.py",
}  # fmt: skip


def package_name(path):
    return ".".join(path.relative_to(ROOT.parent).parts)


def test_wheel_contains_dbctl_alone():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["dbctl"]


def test_every_package_has_a_docstring_alone_and_few_modules():
    for path in PACKAGES:
        tree, name = ast.parse((path / "__init__.py").read_text(encoding="utf-8")), package_name(path)
        assert ast.get_docstring(tree), name
        assert len(tree.body) == 1 or path == ROOT, name
        modules = [file for file in path.glob("*.py") if file.name != "__init__.py"]
        assert len(modules) <= MAX_MODULES or path.name in LARGE_PACKAGES, name


def test_few_modules_are_long_and_each_states_the_reason():
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")
    }
    long = {name: text for name, text in texts.items() if text.count("\n") > MAX_LINES}
    assert long.keys() == LONG_MODULES
    assert len(long) <= 4
    for text in long.values():
        assert f"Over {MAX_LINES} lines: " in ast.get_docstring(ast.parse(text))


@cache
def read_statements(path):
    """Return the assignments and imports of a module that run when it is loaded."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [statement for statement in body if isinstance(statement, ast.Assign | ast.ImportFrom)]


def test_no_module_assigns_a_constant_twice():
    """Modules that are joined can have the same name for two values: no linter reports it, and functions read the later one."""
    for path in ROOT.rglob("*.py"):
        names = [
            target.id
            for statement in read_statements(path)
            if isinstance(statement, ast.Assign)
            for top in statement.targets
            for target in (top.elts if isinstance(top, ast.Tuple) else [top])
            if isinstance(target, ast.Name)
        ]
        assert sorted(names) == sorted(set(names)), path


def list_imports(path):
    """Yield the names that a module imports when it is loaded, with their modules."""
    for node in read_statements(path):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_test_of_the_core_imports_an_extension():
    """Without the folder of an extension, the tests of the core pass (``make without``).

    Neither do the code that they run in other processes, and modules of tools when they are loaded.
    """
    names = "|".join(extension.name for extension in registry.BUILT_IN)
    imported = re.compile(rf"\b(?:dbctl|tests)\.extensions(?:\.| import )(?:{names})\b")
    tests, tools = Path(__file__).parent, ROOT.parent / "tools"
    for path in [*tests.rglob("*.py"), *tools.rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if "extensions" not in text or path.is_relative_to(tests / "extensions"):
            continue
        tree = ast.parse(text)
        for node in tree.body if path.is_relative_to(tools) else ast.walk(tree):
            texts = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            if isinstance(node, ast.ImportFrom):
                texts = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                texts = [alias.name for alias in node.names]
            assert not any(map(imported.search, texts)), f"{path}:{node.lineno}"


def test_no_modules_import_each_other():
    """Such modules can be imported in one order only, which depends on the command."""
    modules = {
        package_name(path.with_suffix("")).removesuffix(".__init__"): path for path in ROOT.rglob("*.py")
    }
    graph = {
        module: {name if name in modules else package for package, name in list_imports(path)}
        for module, path in modules.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.needs_extension
def test_packages_are_within_their_limits():
    assert list(smell.find_excesses(smell.measure_packages(), smell.read_budgets())) == []


@pytest.mark.needs_extension
def test_larger_and_unknown_packages_are_reported():
    sizes, budgets = smell.measure_packages(), dict(smell.read_budgets())
    budgets["errors"] = smell.Budget(sizes["errors"].lines * 100 // 104, 0)
    del budgets["files"]
    budgets["absent"] = smell.Budget(1, 0)
    assert [text.split()[0] for text in smell.find_excesses(sizes, budgets)] == ["errors", "files", "absent"]
