"""Man pages, generated from the command tree and the schema of the configuration.

``python -m tools.man_pages`` writes them to ``man/``: ``dbctl.1``, a page for each group such as ``dbctl-backup.1``, and ``dbctl.toml.5``.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from typer.core import TyperGroup

from dbctl import __version__
from dbctl.cli._catalog import read_catalog
from dbctl.cli._support.group import read_spec
from dbctl.cli.help import CONFIG, ENVIRONMENT, EXIT_CODES, SIGNALS, describe_common_options
from dbctl.cli.main import create_root
from dbctl.cli.man import MARK
from dbctl.config.environment import bundled_folder
from dbctl.services.setup.configuration import list_keys
from tools import reference

if TYPE_CHECKING:
    from typer._click import Command, Context

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
_ESCAPES = str.maketrans(
    {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
)
#: The date of the pages before the first release.
UNRELEASED = "2026-01-01"
LINE = 78  #: columns of a line of the source


def generate() -> Mapping[str, str]:
    """Return the pages by file name."""
    root = create_root()
    ctx = root.make_context("dbctl", [], resilient_parsing=True)
    pages = {"dbctl.1": _root_page(ctx), "dbctl.toml.5": _configuration_page()}
    assert isinstance(root, TyperGroup)  # noqa: S101 - for the type checker
    for name, group in read_catalog().groups.items():
        command = root.get_command(ctx, name)
        assert command is not None  # noqa: S101 - it is in the list
        pages[f"{_page_name(name)}.1"] = _group_page(command, ctx, name, group.help)
    return pages


def write() -> None:
    """Write all pages, and delete those of other groups."""
    folder, pages = bundled_folder("man"), generate()
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def _page_name(group: str) -> str:
    return f"dbctl-{group.replace(' ', '-')}"


def _root_page(ctx: Context) -> str:
    lines = [
        *_heading("dbctl", 1, "administer the databases of self-hosted applications"),
        ".SH SYNOPSIS",
        ".B dbctl",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        *_paragraphs(
            "dbctl operates the databases of self-hosted applications: users, roles, settings, sessions, searches, statistics,"
            " backups, restores, migrations and transfers. Applications are listed in a configuration, dbctl.toml(5), which"
            " dbctl init DIR writes."
        ),
        ".SH COMMANDS",
    ]
    catalog = read_catalog()
    for section, groups in groupby(catalog.groups.items(), lambda item: item[1].section):
        lines.append(f".SS {_escape(section)}")
        for name, group in groups:
            lines += [".TP", f".BR {_escape(_page_name(name))} (1)", *_paragraphs(group.help)]
    lines += [".SH OPTIONS", "These options can be placed before or after the name of any command."]
    lines += _definitions(describe_common_options(ctx))
    lines += [".SH EXIT STATUS", *_definitions([(str(int(code)), text) for code, text in EXIT_CODES.items()])]
    lines += [*_definitions(SIGNALS.items()), ".SH ENVIRONMENT", *_definitions(ENVIRONMENT.items())]
    lines += [".SH FILES", *_paragraphs(CONFIG.partition("\n\n")[0]), ".SH EXAMPLES"]
    for example, text in catalog.examples.items():
        lines += [".TP", f".B {_escape(example)}", *_paragraphs(text)]
    return _join(
        [*lines, ".SH SEE ALSO", *_references([*map(_page_name, catalog.groups)]), ".BR dbctl.toml (5)"]
    )


def _group_page(command: Command, parent: Context, name: str, summary: str) -> str:
    commands = dict(_list_commands(command, parent, f"dbctl {name}"))
    lines = [*_heading(_page_name(name), 1, summary[:1].lower() + summary[1:].rstrip(".")), ".SH SYNOPSIS"]
    for path, (_child, ctx) in commands.items():
        lines += [f".B {_escape(path)}", _escape(" ".join(ctx.command.collect_usage_pieces(ctx))), ".br"]
    lines[-1:] = [".SH DESCRIPTION", *_paragraphs(summary)]
    if len(commands) > 1:
        lines.append(".SH COMMANDS")
    for path, (child, ctx) in commands.items():
        lines += [f".SS {_escape(path)}"] if len(commands) > 1 else []
        lines += _paragraphs(child.help or "")
        records = [record for param in child.params if (record := param.get_help_record(ctx))]
        lines += _definitions(records)
        lines += _code_block([example.text for example in read_spec(ctx).examples if example.shown])
    lines += [
        ".SH OPTIONS",
        *_paragraphs("Options of every command, such as --app, --db and --output, are described in"),
        ".BR dbctl (1).",
        ".SH EXIT STATUS",
        "As of",
        ".BR dbctl (1).",
        ".SH SEE ALSO",
        ".BR dbctl (1),",
        ".BR dbctl.toml (5)",
    ]
    return _join(lines)


def _list_commands(
    command: Command, parent: Context, path: str
) -> Iterator[tuple[str, tuple[Command, Context]]]:
    ctx = command.make_context(path.rpartition(" ")[2], [], parent=parent, resilient_parsing=True)
    if not isinstance(command, TyperGroup):
        yield path, (command, ctx)
        return
    for name in command.list_commands(ctx):
        child = command.get_command(ctx, name)
        assert child is not None  # noqa: S101 - it is in the list
        yield from _list_commands(child, ctx, f"{path} {name}")


def _configuration_page() -> str:
    introduction, *_ = CONFIG.split("\n\n")
    example = CONFIG[CONFIG.index("  [") : CONFIG.rindex("\n\n${")]
    lines = [
        *_heading("dbctl.toml", 5, "configuration of dbctl"),
        ".SH DESCRIPTION",
        *_paragraphs(introduction),
    ]
    lines += [
        ".SH EXAMPLE",
        *_code_block([line.removeprefix("  ") for line in example.splitlines()])[1:],
        ".SH KEYS",
    ]
    for key in list_keys():
        if key.type == "section":
            lines += [
                f".SS {_escape(f'[{key.key}]')}",
                *_paragraphs(f"{key.meaning[:1].upper()}{key.meaning[1:].rstrip('.')}."),
            ]
            continue
        default = "" if key.default in (None, "", [], {}) else f" Default: {json.dumps(key.default)}."
        note = " Required." if key.required else default
        lines += [".TP", f"\\fB{_escape(key.key)}\\fR ({_escape(key.type)})"]
        lines += _paragraphs(f"{key.meaning[:1].upper()}{key.meaning[1:].rstrip('.')}.{note}")
    return _join([*lines, ".SH SEE ALSO", ".BR dbctl (1),", ".BR dbctl\\-config (1)"])


def _heading(name: str, section: int, summary: str) -> list[str]:
    dates = re.findall(r"^## .*(\d{4}-\d\d-\d\d)", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)
    date = dates[0] if dates else UNRELEASED
    return [
        f'.\\" {MARK}',
        f'.TH {_escape(name.upper())} {section} "{date}" "dbctl {__version__}" "dbctl"',
        ".nh",
        ".SH NAME",
        f"{_escape(name)} \\- {_escape(summary)}",
    ]


@cache
def _code_pattern() -> re.Pattern[str]:
    """Return the pattern of what a user types: options, and dbctl with a command."""
    commands = "|".join(
        sorted((words for words, _ in reference.command_helps() if words), key=len, reverse=True)
    )
    return re.compile(rf"(?<![\w\\-])(dbctl (?:{commands})|dbctl\.toml|--?[a-z][a-z-]*)(?![\w-])")


def _paragraphs(text: str) -> list[str]:
    """Return the lines of paragraphs, which blank lines separate."""
    lines = list[str]()
    for part in filter(None, map(str.strip, text.replace("\b", "").split("\n\n"))):
        marked = (
            _code_pattern().sub(r"\\fB\1\\fR", _escape(" ".join(part.split()), keep="-")).replace("-", "\\-")
        )
        wrapped = textwrap.wrap(marked, LINE, break_on_hyphens=False, break_long_words=False)
        lines += [
            *([".PP"] if lines else []),
            *(f"\\&{line}" if line.startswith(".") else line for line in wrapped),
        ]
    return lines


def _definitions(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in items:
        yield from [".TP", f"\\fB{_escape(term)}\\fR", *(_paragraphs(text) or ["\\&"])]


def _code_block(lines: Sequence[str]) -> list[str]:
    return [".PP", ".RS 4", ".nf", *map(_escape, lines), ".fi", ".RE"] if lines else []


def _references(names: Sequence[str]) -> list[str]:
    return [f".BR {_escape(name)} (1)," for name in names]


def _escape(text: str, keep: str = "") -> str:
    """Return text as groff prints it literally; characters of ``keep`` are not changed."""
    escapes = {key: value for key, value in _ESCAPES.items() if chr(key) not in keep}
    escaped = text.translate(escapes)
    escaped = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in escaped)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write()
