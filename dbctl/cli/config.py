"""``dbctl config``: keys of the configuration, their values and their meaning."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbctl.cli._support.emit import emit, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag
from dbctl.cli._support.session import Session
from dbctl.config.extension_sections import read_schema
from dbctl.errors.base import Exit
from dbctl.files import toml
from dbctl.model import Findings, Page
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.services import profiles
from dbctl.services.setup.configuration import (
    edit_configuration,
    explain_config_key,
    find_editor,
    select_file,
    show_configuration,
)
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.services.setup.configuration import ConfigEdited, ConfiguredKey, KeyDescription


GROUP = Group(
    "config", section="Set up", position=2, help="Keys of the configuration: values, meaning, errors."
)


@Example("config show --app {app} --defaults", on=EVERYWHERE)
@Example("config show -o json")
@GROUP.command("show", answers=lambda: (Page[ConfiguredKey],))
def show_(
    session: Session,
    *,
    defaults: Annotated[
        bool, flag("--defaults", "Also show the keys that an app does not set, with their defaults.")
    ] = False,
) -> int:
    """Show the keys of the configuration with their values and lines, without passwords."""
    path, page = show_configuration(session.selection, with_defaults=defaults)
    return emit(session, page, target=str(path))


@Example("config explain backup.keep", on=EVERYWHERE)
@Example("config explain databases")
@GROUP.command("explain", answers=lambda: (KeyDescription, Page[KeyDescription]))
def explain(
    session: Session,
    key: Annotated[
        str, argument("[KEY]", "A key or a section, such as backup.max_age; default: all keys.")
    ] = "",
) -> int:
    """Explain a key of the configuration: its type, default and meaning."""
    return emit(session, explain_config_key(key))


@Example("config edit", on=EVERYWHERE)
@Example("config edit --config /etc/dbctl/dbctl.toml")
@GROUP.command("edit", answers=lambda: (ConfigEdited,), only_answers=False)
def edit(session: Session) -> int:
    """Edit the configuration with VISUAL or EDITOR; an invalid file is not installed.

    The editor opens a copy. On a terminal, an invalid copy can be corrected; otherwise the errors are printed, and the file remains.
    --app selects the file of dbctl.d that defines the app.
    """
    main, file = select_file(session.selection)
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    editor = find_editor(on_terminal=on_terminal)

    def ask_again(problems: Sequence[toml.Problem]) -> bool:
        show = streams.remark if on_terminal else partial(warn, session)
        for problem in problems:
            show(f"{problem.file or file}, line {problem.line}, {problem.key}: {problem.reason}")
        question = "Edit it again? Otherwise your changes are discarded"
        return on_terminal and typer.confirm(question, default=True, err=True)

    result = edit_configuration(main, file, editor, ask_again)
    return emit(session, result, target=result.file)


@Example("config validate", on=EVERYWHERE)
@Example("config validate --config /etc/dbctl/dbctl.toml")
@GROUP.command("validate", answers=lambda: (Findings,), findings=True)
def validate(session: Session) -> int:
    """Check the configuration and its profiles, without opening a database.

    Print every error with its line and key, and exit with 2 if there is one. Check the live databases, too, with: dbctl apps check.
    """
    findings = profiles.check_files(session.selection, "")
    return emit(session, findings, status=Exit.USAGE if findings.has_errors else Exit.OK)


@Example("config schema > dbctl.schema.json", on=EVERYWHERE)
@Example("config schema -o json")
@GROUP.command("schema", answers=lambda: (dict[str, Any],))
def schema(session: Session) -> int:
    """Print the JSON Schema of the configuration, for editors."""
    if session.options.output is Format.TABLE:
        streams.write(f"{json.dumps(read_schema(), indent=1, ensure_ascii=False)}\n", utf8=True)
        return Exit.OK
    return emit(session, read_schema())
