"""``dbctl report``: the operations report of all apps, on the terminal or as one HTML page."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from dbctl.cli._support.emit import emit, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import option
from dbctl.cli._support.parameters import period_option, read_selections
from dbctl.cli._support.session import Session
from dbctl.errors.connection import FileExistsAlreadyError, FileFailedError
from dbctl.extensions.reports.collect import collect_report
from dbctl.extensions.reports.page import SIGNATURE, create_page
from dbctl.extensions.reports.result import OperationsReport
from dbctl.files import atomic
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.services.events.runs import locate_journal
from dbctl.services.history import DEFAULT_PERIOD
from dbctl.spec import EVERYWHERE, Example

GROUP = Group(
    "report", section="Inspect", position=2, help="Growth, activity, backups, findings: also as a page."
)


class PageWritten(ChangeResult, frozen=True, kw_only=True):
    """Result of ``report --html FILE``."""

    path: str
    bytes: int

    @property
    def effect(self) -> Effect | None:
        return Effect("wrote", "page", [self.path], bytes=self.bytes)


@Example("report --html report.html", on=EVERYWHERE)
@Example("report --since 7d -o json", on="flashpoint-web custom")
@GROUP.command(answers=lambda: (OperationsReport, PageWritten))
def report(
    session: Session,
    html: Annotated[
        str,
        option("--html", "FILE", "Write one HTML page, which needs no network; - is the standard output."),
    ] = "",
    since: Annotated[
        timedelta | None, period_option("--since", "30d", "Report this period; default: 30d.")
    ] = None,
) -> int:
    """Report the state, growth, activity, backups, findings, migrations and changes of all configured apps.

    --app NAME selects one app. Sizes and rows are those that backups and dbctl status --record recorded, and runs those
    of the journal. A fleet has the sums of its instances, and a list of those that need attention.
    """
    options, selection = session.options, session.selection
    all_apps = not (selection.app or selection.profile or selection.urls)
    selections = read_selections(session, all_apps=all_apps, allow_fleets=True)
    with show_progress(session, threaded=False):  # a fleet forks processes
        collected = collect_report(
            selections,
            locate_journal(selection, all_apps=all_apps),
            timeout=options.timeout,
            since=since or DEFAULT_PERIOD,
            jobs=options.jobs,
        )
    if html:
        written = _write_page(html, collected)
        if written is None or options.output is Format.TABLE:
            return emit(session, written)
    return emit(session, collected, target=", ".join(app.app for app in collected.apps))


def _write_page(file: str, report: OperationsReport) -> PageWritten | None:
    """Write the page of a report, and replace an earlier one; ``-`` is the standard output, and returns None.

    Raises:
        FileExistsAlreadyError: the file is not the page of a report; it was not changed.
        FileFailedError: it cannot be written.
    """
    page = create_page(report)
    if file == "-":
        streams.write(page, utf8=True)
        return None
    path = Path(file)
    _require_page(path)
    with write_atomically(path, replace=True) as text:
        text.write(page)
    return PageWritten(path=file, bytes=len(page.encode()))


def _require_page(path: Path) -> None:
    """Refuse to replace a file that is not the page of a report."""
    try:
        with atomic.open_regular(path) as existing:
            begin = existing.read(len(SIGNATURE))
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
    if begin and begin != SIGNATURE.encode():
        raise FileExistsAlreadyError(path=path, hint="It is not the page of a report. Choose another name.")
