"""Generate the reference from the code: JSON Schemas of answers, commands, errors, findings, lint rules, and keys of profiles and of the configuration.

``python -m tools.reference`` writes it; a test compares it with the code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from typer.core import TyperGroup

from dbctl.cli.main import create_root
from dbctl.errors.base import Exit, Remedy, load_registry
from dbctl.errors.connection import StoppedError
from dbctl.model import Severity
from dbctl.render.answers import SCHEMAS, describe_answers
from dbctl.services.fleet.instances import FleetResult
from dbctl.services.migrations.lint_rules import LINT_RULES
from dbctl.spec import CommandSpec
from tools.commands import read_groups
from tools.compact_json import format_definitions
from tools.findings_page import findings_page
from tools.schema_pages import configuration_page, profile_page

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/reference"
WIDTH = 100

#: Names of schemas that are not those of commands: every command on a fleet has the same.
OTHER_RESULTS: Mapping[str, tuple[Any, ...]] = {"fleet": (FleetResult,)}


def build_schemas() -> dict[str, Any]:
    """Return the JSON Schema of every answer in its envelope, by the name in its ``schema`` field."""
    return describe_answers(
        {**{name: spec.list_answers() for name, spec in read_specs().items()}, **OTHER_RESULTS}
    )


def commands_page() -> str:
    """Return a page with the help of every command."""
    sections = ["# Commands\n\nGenerated from the program: `dbctl COMMAND --help` prints the same.\n"]
    for words, text in command_helps():
        sections.append(f"## dbctl {words}\n\n```text\n{text}```\n" if words else f"```text\n{text}```\n")
    return "\n".join(sections)


@cache
def command_helps() -> Sequence[tuple[str, str]]:
    """Return the path and the help of every command, starting with the root."""
    root = create_root()
    context = root.make_context("dbctl", [], resilient_parsing=True, max_content_width=WIDTH)
    return tuple(_helps(root, context, ""))


@cache
def read_specs() -> Mapping[str, CommandSpec]:
    """Return the declarations of all commands, by name."""
    return {spec.name: spec for group in read_groups() for spec in group.specs}


def find_spec(line: str) -> CommandSpec:
    """Return the declaration of the command of a command line, without the program."""
    return read_specs()[max((name for name in read_specs() if f"{line} ".startswith(f"{name} ")), key=len)]


def list_commands() -> dict[str, str]:
    """Return the path and the help of every command that is not a group."""
    return {words: text for words, text in command_helps() if words and "Commands:" not in text}


def errors_page() -> str:
    """Return a page with every error, by exit status."""
    lines = [
        "# Errors and exit codes\n",
        "Generated from `dbctl/errors/`. The JSON object contains the code as `error.code`.\n",
        "| exit | code | message | hint |",
        "| --- | --- | --- | --- |",
    ]
    errors_ = sorted(load_registry().values(), key=lambda error: (error.exit_status, error.code))
    for error in errors_:
        status = f"{int(error.exit_status)} {Exit(error.exit_status).name.lower().replace('_', '-')}"
        if error is StoppedError:
            status = "128 + signal"
        message, hint = (text.replace("|", "\\|") for text in (error.sentence, str(Remedy(error.remedy))))
        lines.append(f"| {status} | `{error.code}` | {message} | {hint} |")
    return "\n".join(lines) + "\n"


def lint_page() -> str:
    """Return a page with the rules of ``migrate lint``."""
    lines = [
        "# Rules of migrate lint\n",
        "Generated from `dbctl/services/migrations/lint_rules.py`. A line `-- dbctl: allow CODE` above a statement, or at the",
        "top of a file, suppresses a finding; `unusable`, a file that cannot run, is always reported.\n",
        "| severity | code | action |",
        "| --- | --- | --- |",
    ]
    order = list(get_args(Severity))[::-1]
    for code, rule in sorted(LINT_RULES.items(), key=lambda item: (order.index(item[1].severity), item[0])):
        lines.append(f"| {rule.severity} | `{code}` | {rule.hint} |")
    return "\n".join(lines) + "\n"


def _helps(command: Any, ctx: Any, words: str) -> Iterator[tuple[str, str]]:
    text = command.get_help(ctx)
    yield words, "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child is not None:
                inner = child.make_context(name, [], parent=ctx, resilient_parsing=True)
                yield from _helps(child, inner, f"{words} {name}".strip())


def metrics_page() -> str:
    """Return a page with every metric, its labels and its meaning."""
    # in a copy without the extension, tests of the core read the commands of this module
    from dbctl.extensions.metrics.families import FAMILIES, PREFIX

    lines = [
        "# Metrics\n",
        "Generated from `dbctl/extensions/metrics/families.py`. `dbctl metrics` exports these gauges; their names, labels and units are stable. `_bytes` and `_seconds` are units,",
        "and a time (`_timestamp_seconds`) is the number of seconds since 1970-01-01 UTC. A value that is unknown, or does not apply to an app, is absent.\n",
        "| metric | labels | meaning |",
        "| --- | --- | --- |",
    ]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{PREFIX}{family.name}` | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the schemas and all pages."""
    SCHEMAS.write_text(
        format_definitions(json.loads(json.dumps(build_schemas(), sort_keys=True))), encoding="utf-8"
    )
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "commands.md").write_text(commands_page(), encoding="utf-8")
    (PAGES / "errors.md").write_text(errors_page(), encoding="utf-8")
    (PAGES / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    (PAGES / "lint.md").write_text(lint_page(), encoding="utf-8")
    (PAGES / "findings.md").write_text(findings_page(), encoding="utf-8")
    (PAGES / "profile.md").write_text(profile_page(), encoding="utf-8")
    (PAGES / "configuration.md").write_text(configuration_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
