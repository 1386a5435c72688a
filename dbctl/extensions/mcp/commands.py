"""``dbctl mcp``: the commands that only read, as tools of an agent."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated

from dbctl.cli._support.group import Group
from dbctl.cli._support.options import option, parse_positive
from dbctl.cli._support.session import Session
from dbctl.errors.usage import require_driver
from dbctl.spec import Example

GROUP = Group("mcp", section="Automate", position=11, help="Serve commands that only read to an agent.")


@Example("mcp")
@Example("mcp --app {app} --max-rows 100")
@GROUP.command(answers=lambda: (), only_answers=False)
def mcp(
    session: Session,
    max_rows: Annotated[
        int,
        option("--max-rows", "N", "Rows that a call can request from commands with --limit.", parse_positive),
    ] = 500,
) -> int:
    """Serve the commands that only read as tools of the Model Context Protocol, on standard input and output.

    A tool writes no database and no file, cannot show secrets, and has the options of its command except those that name
    files or addresses. Each call is a run in the journal. It requires pip install 'dbctl[mcp]'.
    """
    with require_driver("mcp", driver="mcp", extra="mcp"):
        from dbctl.extensions.mcp.server import serve
    options = session.options
    words = [f"--config={options.config}"] if options.config else []
    words += [f"--profile={options.profile}"] if options.profile else []
    words += [f"--app={options.app}"] if options.app else []
    serve([*words, *(f"--url={url}" for url in options.url or ())], max_rows=max_rows)
    return 0
