"""``dbctl notify``: test channels, and send what is overdue and summaries."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.emit import emit, note, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag
from dbctl.cli._support.parameters import period_option
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.config.environment import use_secrets
from dbctl.config.sections import Sections, Selection
from dbctl.extensions import registry
from dbctl.services.events.runs import JournalLocation, locate_journal
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.extensions.notify.dispatch import ChannelTests, ProblemsSent
    from dbctl.extensions.notify.notice import Attachment


GROUP = Group(
    "notify",
    section="Automate",
    position=5,
    help="Notifications: test channels, send what is overdue.",
    all_apps=True,
)


def _read_apps(session: Session) -> tuple[Sections, Sequence[Selection]]:
    """Return the configuration and its apps, or the selected one.

    Raises:
        ConfigMissingError, ConfigInvalidError: as ``loader.load``.
        AppMissingError: the selected app is not configured.
    """
    selection = session.selection
    sections = loader.load_sections(selection)
    use_secrets(sections.secrets, sections.folder)
    if selection.app and selection.app.partition("/")[0] not in sections.apps:
        raise loader.app_missing_error(selection.app, loader.config_path(selection), list(sections.apps))
    from dbctl.extensions.notify.check import select_apps

    return sections, select_apps(sections, selection)


@Example("notify test --app {app}", on="custom samples")
@Example("notify test ping", on="flashpoint-web")
@GROUP.command("test", answers=lambda: (ChannelTests,), only_answers=False)
def send_test(
    session: Session,
    channel: Annotated[str, argument("[CHANNEL]", "Default: every configured channel.")] = "",
) -> int:
    """Send a test message through each configured channel of every app, and print the results; --app NAME selects one app.

    A ping is sent as an event that does not change the state of the check. Exit with 10 if no channel delivers it, and with 12 if some
    do not.
    """
    from dbctl.extensions.notify.dispatch import send_tests

    sections, selections = _read_apps(session)
    with show_progress(session, "sending"):
        result = send_tests(sections, [selection.app for selection in selections], channel)
    return emit(session, result, status=result.exit_status)


@Example("notify check --app {app}", on=EVERYWHERE)
@Example("notify check --quiet")
@GROUP.command("check", answers=lambda: (ProblemsSent,), recorded=True)
def check(session: Session) -> int:
    """Send overdue work and findings of the status, and their end; for cron. --app NAME selects one app.

    Notices about failed jobs are sent when the jobs end; this command sends those that could not be delivered then, jobs that were killed,
    and jobs that were not started. A problem that was sent is not
    sent again until the time of repeat has passed.
    """
    from dbctl.extensions.notify.check import send_problems

    sections, selections = _read_apps(session)
    location = locate_journal(session.selection, all_apps=True)
    with show_progress(session, threaded=False):  # a fleet forks processes
        result = send_problems(sections, location, selections, timeout=session.options.timeout)
    for text in result.remarks:
        warn(session, text)
    return emit(session, result, status=result.exit_status)


@Example("notify summary", on=EVERYWHERE)
@Example("notify summary --since 30d --report")
@GROUP.command("summary", answers=lambda: (ProblemsSent,), recorded=True)
def summary(
    session: Session,
    since: Annotated[
        timedelta, period_option("--since", "7d", "Count runs that began within this time.")
    ] = "7d",  # type: ignore[assignment] # the parser converts it
    with_report: Annotated[
        bool, flag("--report", "Attach the page of dbctl report to the e-mail, with the same period.")
    ] = False,
) -> int:
    """Send a summary of the status, the backups and the runs of every app; for a weekly job of cron. --app NAME selects one app."""
    from dbctl.extensions.notify.check import send_summary

    sections, selections = _read_apps(session)
    location = locate_journal(session.selection, all_apps=True)
    with show_progress(session, threaded=False):  # a fleet forks processes
        attachment = _create_report(session, selections, location, since) if with_report else None
        result = send_summary(
            sections,
            location,
            selections,
            period=since,
            timeout=session.options.timeout,
            attachment=attachment,
        )
    for text in result.remarks:
        warn(session, text)
    return emit(session, result, status=result.exit_status)


def _create_report(
    session: Session, selections: Sequence[Selection], location: JournalLocation, since: timedelta
) -> "Attachment | None":
    """Return the page of the report; None, with a note: its extension is not installed."""
    place = registry.find_place("summary_page")
    if place is None:
        note(session, "the extension reports is not installed; nothing is attached")
        return None
    from dbctl.extensions.notify.notice import Attachment

    options = session.options
    page = registry.load(place)(selections, location, timeout=options.timeout, since=since, jobs=options.jobs)
    return Attachment("report.html", page)
