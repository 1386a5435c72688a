"""The catalog of all commands, generated from the declarations in the modules of ``dbctl.cli`` and of the extensions.

``python -m tools.commands`` writes it to ``dbctl/cli/commands.json``, first of the generated files: the others read it.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Sequence
from copy import copy
from functools import cache
from importlib import import_module
from types import ModuleType

from msgspec import to_builtins

import dbctl.cli
from dbctl.cli._catalog import FILE, Catalog, CatalogGroup
from dbctl.cli._support.group import SECTIONS, Group
from dbctl.extensions import registry
from tools.compact_json import format_definitions


@cache
def read_groups() -> Sequence[Group]:
    """Return the groups of all modules, in the order of the help of dbctl."""
    names = [f"dbctl.cli.{module.name}" for module in pkgutil.iter_modules(dbctl.cli.__path__)]
    joined = [place for extension in registry.list_built_in() for place in extension.commands.values()]
    for extension in registry.list_built_in():
        names += extension.groups.values()
    modules = [import_module(name) for name in dict.fromkeys([*names, *joined])]
    for module in modules:
        _import_answers(module)
    groups = {
        module.GROUP.name: module.GROUP
        for module in modules
        if hasattr(module, "GROUP") and module.GROUP.section
    }
    for place in dict.fromkeys(joined):
        group = import_module(place).GROUP
        merged = groups[group.name] = copy(groups[group.name])
        merged.infos, merged.specs = merged.infos + group.infos, merged.specs + group.specs
    return sorted(
        groups.values(), key=lambda group: (SECTIONS.index(group.section), group.position, group.name)
    )


def _import_answers(module: ModuleType) -> None:
    """Import the types of the answers of a module, which it imports for type checkers alone: no command needs them at its start."""
    tree = ast.parse(inspect.getsource(module))
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                exec(ast.unparse(statement), vars(module))  # noqa: S102 - an import of dbctl itself


def build_catalog() -> str:
    """Return the content of the file."""
    groups = read_groups()
    catalog = Catalog(
        groups={
            group.name: CatalogGroup(
                section=str(group.section),
                help=group.help,
                commands=[str(info.name) for info in group.infos if info.name != group.name],
            )
            for group in groups
        },
        examples={
            example.text: example.meaning
            for group in groups
            for spec in group.specs
            for example in spec.examples
            if example.meaning
        },
    )
    return format_definitions(to_builtins(catalog))


if __name__ == "__main__":
    FILE.write_text(build_catalog(), encoding="utf-8")
