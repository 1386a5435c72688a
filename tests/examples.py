"""The examples that commands declare, and further lines, as tests run them on an app."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.extensions import registry
from dbctl.services.backup import manifest as backup_manifest
from dbctl.spec import APPS, Example
from tests.further_examples import FURTHER_EXAMPLES
from tools import reference

#: The format and the redirection of the output, which the tests select.
_OUTPUT = re.compile(r" -o \S+| [>|] .*")
#: Lines of commands of the core with a file or an index that only an extension reads, and the extension.
READ_BY_EXTENSIONS = {
    "backup verify ./copy_20260105_030000.db": "adopt",
    "restore preview --file {dump}": "adopt",
    "restore apply --file {dump} --yes": "adopt",
    "restore apply --file dump.sql --repository backups --yes": "adopt",
    "search index check": "external_index",
}


def read_examples(app: str) -> Mapping[str, Example]:
    """Return the examples that run on ``app`` by line, in the order of the help of dbctl; those of absent extensions are omitted.

    Raises:
        ValueError: two examples differ only in the output.
    """
    assert app in APPS
    specs = reference.read_specs()
    lines: dict[str, list[Example]] = {name: [] for name in specs}
    for line in FURTHER_EXAMPLES:
        if is_installed(line.line):
            lines[reference.find_spec(line.line).name].append(line)
    examples = [
        example
        for name, spec in specs.items()
        for example in [*spec.examples, *lines[name]]
        if app in example.on.split() and is_installed(example.line)
    ]
    by_line = {_OUTPUT.sub("", example.line): example for example in examples}
    if len(by_line) != len(examples):
        message = f"examples of {app} are equal"
        raise ValueError(message)
    return by_line


def is_installed(line: str) -> bool:
    """Whether no extension that a line needs is absent."""
    absent = {extension.name for extension in registry.BUILT_IN if extension not in registry.list_built_in()}
    return find_extension(line) not in absent


def mark_command(line: str) -> Sequence[pytest.MarkDecorator]:
    """Return the mark of a test that runs a line, if it needs an extension."""
    name = find_extension(line)
    return [pytest.mark.needs_extension(name)] if name else []


def find_extension(line: str) -> str | None:
    """Return the extension that a line needs."""
    for extension in registry.BUILT_IN:
        commands = (*extension.groups, *extension.commands)
        if any(f"{line} ".startswith(f"{command} ") for command in commands):
            return extension.name
    return READ_BY_EXTENSIONS.get(line)


def order_lines(examples: Mapping[str, Example]) -> Iterator[str]:
    """Yield every line of the examples once, those that others need before them."""
    yielded = set[str]()

    def visit(line: str) -> Iterator[str]:
        if line in examples and line not in yielded:
            yielded.add(line)
            for needed in examples[line].needs:
                yield from visit(needed)
            yield line

    for line in examples:
        yield from visit(line)


def copy_deployment(source: Path, target: Path) -> None:
    """Copy the folder of a deployment; its backups have the addresses of the copied databases."""
    shutil.copytree(source, target)
    for path in target.rglob("manifest.json"):
        manifest = backup_manifest.parse(path.read_bytes())
        addresses = {
            name: address.replace(f"{source.resolve()}/", f"{target.resolve()}/")
            for name, address in manifest.addresses.items()
        }
        moved = structs.replace(manifest, addresses=addresses)
        path.write_text(backup_manifest.serialize(moved), encoding="utf-8")


def split_line(line: str, values: Mapping[str, str]) -> list[str]:
    """Return the arguments of a line with the values of an app."""
    words = shlex.split(line.format_map(values))
    # Many tests run a line on a copy of the deployment in which the operation was recorded.
    return [*words, "--moved"] if words[0] == "undo" else words


def list_untested(examples: Collection[str]) -> set[str]:
    """Return the commands of which no example is among ``examples``, or is read only by an absent extension."""
    lines = [*examples, *(line for line in READ_BY_EXTENSIONS if not is_installed(line))]
    return set(reference.read_specs()) - {reference.find_spec(line).name for line in lines}
