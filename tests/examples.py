"""The examples that commands declare, and further lines, as tests run them on an app."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from dbctl.extensions import registry
from dbctl.spec import APPS, Example
from tests.further_examples import FURTHER_EXAMPLES
from tools import reference

#: The format and the redirection of the output, which the tests select.
_OUTPUT = re.compile(r" -o \S+| [>|] .*")


def read_examples(app: str) -> Mapping[str, Example]:
    """Return the examples that run on ``app`` by line, in the order of the help of dbctl; those of absent extensions are omitted.

    Raises:
        ValueError: two examples differ only in the output.
    """
    assert app in APPS
    specs = reference.read_specs()
    lines: dict[str, list[Example]] = {name: [] for name in specs}
    for line in list_further_examples():
        lines[reference.find_spec(line.line).name].append(line)
    examples = [
        example
        for name, spec in specs.items()
        for example in [*spec.examples, *lines[name]]
        if app in example.on.split()
    ]
    by_line = {_OUTPUT.sub("", example.line): example for example in examples}
    if len(by_line) != len(examples):
        message = f"examples of {app} are equal"
        raise ValueError(message)
    return by_line


def list_further_examples() -> Sequence[Example]:
    """Return the further examples of the commands that exist."""
    absent = tuple(f"{name} " for name in registry.list_absent())
    return [example for example in FURTHER_EXAMPLES if not f"{example.line} ".startswith(absent)]


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


def split_line(line: str, values: Mapping[str, str]) -> list[str]:
    """Return the arguments of a line with the values of an app."""
    return shlex.split(line.format_map(values))


def list_untested(examples: Mapping[str, Example]) -> set[str]:
    """Return the commands of which no example is among ``examples``."""
    return set(reference.read_specs()) - {reference.find_spec(line).name for line in examples}
