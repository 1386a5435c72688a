"""The structure of the engines: composition instead of deep inheritance, and no name of an engine outside of its package."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from functools import cached_property
from importlib import import_module
from pathlib import Path

import pytest

import dbctl
from dbctl import engines
from dbctl.engines import registry
from dbctl.url import list_engines

ROOT = Path(dbctl.__file__).parent
#: The packages of all engines.
PACKAGES = [entry.place.partition(":")[0].rpartition(".")[0] for _, entry in list_engines()]
#: Bases of a class with the class itself, and methods with inherited ones. Classes include the contracts ``Readable`` and
#: ``Writable``, and the base of an engine, which has its parts.
MAX_CLASSES, MAX_METHODS, MAX_REGISTRY_LINES = 7, 60, 200
#: The type of a file's content, some of whose values are also names of engines.
CONTENT = ("content", "_content")


def list_classes():
    """Return the classes that modules of engines define."""
    packages = [engines.__name__, *PACKAGES]
    modules = [
        import_module(module.name)
        for package in packages
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}.")
    ]
    values = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    return [value for value in values if value.__module__.startswith(tuple(packages))]


@pytest.mark.needs_extension("lancedb")
def test_classes_have_few_bases_and_methods():
    kinds = (property, classmethod, staticmethod, cached_property)
    excessive = []
    for checked in list_classes():
        bases = [base for base in checked.__mro__ if base.__module__.startswith("dbctl.")]
        methods = {
            name
            for base in bases
            for name, value in vars(base).items()
            if inspect.isroutine(value) or isinstance(value, kinds)
        }
        if len(bases) > MAX_CLASSES or len(methods) > MAX_METHODS:
            excessive.append((checked.__qualname__, len(bases), len(methods)))
    assert excessive == []


def test_registry_is_small():
    assert len(Path(registry.__file__).read_text(encoding="utf-8").splitlines()) <= MAX_REGISTRY_LINES


def find_comparisons(tree):
    """Yield the lines that compare a value, except the content of a file, with the name of an engine."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        else:
            continue
        names = {
            item.value for operand in operands for item in ast.walk(operand) if isinstance(item, ast.Constant)
        }
        is_content = any(getattr(operand, "attr", "") in CONTENT for operand in operands)
        if not is_content and names & set(dict(list_engines())):
            yield node.lineno if isinstance(node, ast.Compare) else node.value.lineno


def test_comparisons_with_the_name_of_an_engine_are_detected():
    code = "a.engine == 'mysql'\na in ('sqlite', 'x')\na.content == 'sqlite'\nmatch a:\n  case 'lancedb':\n    pass\n"
    assert sorted(find_comparisons(ast.parse(code))) == [1, 2, 5]


def test_no_code_outside_of_an_engine_compares_its_name():
    packages = [ROOT.parent / name.replace(".", "/") for name in PACKAGES]
    sources = {
        path: path.read_text(encoding="utf-8")
        for path in ROOT.rglob("*.py")
        if not any(path.is_relative_to(package) for package in packages)
    }
    literals = [f'"{name}"' for name, _ in list_engines()]
    comparisons = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, source in sources.items()
        if any(literal in source for literal in literals)  # parsing takes most of the time
        for line in find_comparisons(ast.parse(source))
    ]
    assert comparisons == []
