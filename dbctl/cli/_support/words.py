"""The words of a command line, written again for dbctl of another machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dbctl.cli._support.options import WORDS, CommonOptions, common_parameter_names
from dbctl.render.streams import supports_color

if TYPE_CHECKING:
    from typer._click import Parameter

    from dbctl.cli._support.session import Session

#: Common options about this machine: those that select the app, its log, and the colors, of which this terminal decides.
_LOCAL = frozenset({
    "config", "app", "profile", "url", "replica", "log_file", "log_format", "log_level", "color", "no_color"
})  # fmt: skip


def write_words(session: Session) -> Sequence[str]:
    """Return the words of the command, without ``dbctl`` and without the options that select an app."""
    words, arguments = session.spec.name.split(), list[str]()
    words += _write_common_options(session)
    for parameter, values in _list_values(session):
        if parameter.param_type_name == "argument":
            arguments += map(str, values)
        elif isinstance(values[0], bool):
            words.append(parameter.opts[0] if values[0] else parameter.secondary_opts[0])
        else:
            words += [f"{parameter.opts[0]}={value}" for value in values]
    return [*words, "--", *arguments]


def find_local_file(session: Session) -> str:
    """Return the file of this machine that the command line names for a parameter of the command; empty: it names none."""
    for parameter, values in _list_values(session):
        is_file = parameter.type.name == "path" or str(parameter.metavar).endswith("FILE")
        if is_file and values[-1] != "-":
            return str(values[-1])
    return ""


def _list_values(session: Session) -> Iterator[tuple[Parameter, Sequence[str | bool]]]:
    """Yield the parameters of the command itself that the command line has, with their values as typed; of a flag, a boolean."""
    ctx, common = session.ctx, common_parameter_names()
    values, _, _ = ctx.command.make_parser(ctx).parse_args([*ctx.meta[WORDS]])
    for parameter in ctx.command.params:
        value = values.get(parameter.name or "")
        if parameter.name not in common and value not in (None, ()):
            yield parameter, value if isinstance(value, (list, tuple)) else [value]


def _write_common_options(session: Session) -> Iterator[str]:
    defaults = CommonOptions(timeout=session.spec.timeout)
    for parameter in session.ctx.find_root().command.params:
        name = parameter.name or ""
        value = getattr(session.options, name, None)
        if name in _LOCAL or value == getattr(defaults, name, None):
            continue
        yield parameter.opts[0] if value is True else f"{parameter.opts[0]}={value}"
    yield f"--color={'always' if supports_color(sys.stdout) else 'never'}"
