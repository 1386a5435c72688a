"""``dbctl config``: keys of the configuration, their values and their meaning."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated

import typer

from dbctl.cli._support.app import read_selection
from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import read_options
from dbctl.config import CONFIG_SCHEMA
from dbctl.errors import Exit
from dbctl.render import Format, streams
from dbctl.services.profiles import inventory
from dbctl.services.setup import explain_config_key, read_config_schema, show_configuration

app = typer.Typer()


@app.command("show")
def show_(
    ctx: typer.Context,
    *,
    defaults: Annotated[
        bool,
        typer.Option("--defaults", help="Also show the keys that an app does not set, with their defaults."),
    ] = False,
) -> int:
    """Show the keys of the configuration with their values and lines, without passwords.

    Example: dbctl config show --app shop --defaults
    """
    path, page = show_configuration(read_selection(ctx), with_defaults=defaults)
    return emit(ctx, page, target=str(path))


@app.command()
def explain(
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="[KEY]", help="A key or a section, such as backup.max_age; default: all keys."
        ),
    ] = "",
) -> int:
    """Explain a key of the configuration: its type, default and meaning.

    Example: dbctl config explain backup.keep
    """
    return emit(ctx, explain_config_key(key))


@app.command()
def validate(ctx: typer.Context) -> int:
    """Check the configuration and its profiles, without opening a database.

    Print every error with its line and key, and exit with 2 if there is one. Check the live databases, too, with: dbctl apps check.

    Example: dbctl config validate --config /etc/dbctl/dbctl.toml
    """
    findings = inventory.check_files(read_selection(ctx), "")
    return emit(ctx, findings, status=Exit.USAGE if findings.has_errors else Exit.OK)


@app.command()
def schema(ctx: typer.Context) -> int:
    """Print the JSON Schema of the configuration, for editors.

    Example: dbctl config schema > dbctl.schema.json
    """
    if read_options(ctx).output is Format.TABLE:
        streams.write(CONFIG_SCHEMA.read_text(encoding="utf-8"), utf8=True)
        return Exit.OK
    return emit(ctx, read_config_schema())
