"""``dbctl metrics``: metrics of databases, backups and runs for Prometheus."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.emit import emit, note, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import option
from dbctl.cli._support.session import Session
from dbctl.model import Page
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.extensions.metrics.families import MetricsWritten, Sample


GROUP = Group(
    "metrics", section="Automate", position=2, help="Metrics of databases, backups and runs for Prometheus."
)


@Example("metrics", on=EVERYWHERE)
@Example("metrics --write dbctl.prom", on="flashpoint-web")
@GROUP.command(answers=lambda: (Page[Sample], MetricsWritten))
def metrics(
    session: Session,
    write: Annotated[
        Path | None,
        option(
            "--write",
            "FILE",
            "Replace a file with mode 0644, such as one of the textfile collector of node_exporter.",
        ),
    ] = None,
) -> int:
    """Print the metrics of every configured app in the text format of Prometheus; --app NAME selects one app.

    An app that cannot be read has the metric dbctl_up with the value 0, and the command succeeds. The names of
    metrics are stable. It requires pip install 'dbctl[metrics]'.
    """
    from dbctl.extensions.metrics.families import collect_metrics, format_metrics, write_metrics

    options = session.options
    with show_progress(session):
        collected = collect_metrics(session.selection, timeout=options.timeout)
    for problem in collected.problems:
        note(session, problem)
    target = options.app or None
    if write:
        return emit(session, write_metrics(collected, write), target=target)
    if options.output is not Format.TABLE:
        return emit(session, collected.page, target=target)
    streams.write_file(format_metrics(collected.page.items))
    return 0
