"""``dbctl schedule``: generate and check crontab lines, units and manifests of scheduled jobs."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from dbctl.cli._support.emit import emit, run_change, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import AllApps, DryRun, duration_option, read_selections
from dbctl.cli._support.session import Session
from dbctl.config.sections import Selection
from dbctl.errors.base import Exit
from dbctl.errors.usage import UsageError
from dbctl.model import Page
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.extensions.schedule.cron import UnitsInstalled
    from dbctl.extensions.schedule.jobs import Job, PlannedJob
    from dbctl.extensions.schedule.manifests import Manifest
    from dbctl.extensions.schedule.status import JobStatus
    from dbctl.extensions.schedule.units import Unit


GROUP = Group(
    "schedule", section="Automate", position=1, help="Timers, crontab lines and manifests of scheduled jobs."
)

Image: TypeAlias = Annotated[str, option("--image", "NAME", "Image of dbctl; see the Dockerfile.")]


def _select_apps(session: Session, *, all_apps: bool) -> list[Selection]:
    """Return the selected apps.

    Raises:
        UsageError: a database was selected, which no job can be.
    """
    if database := session.options.db:
        raise UsageError(detail=f"--db {database}: the jobs of an app are for all of its databases")
    return read_selections(session, all_apps=all_apps, allow_fleets=True)


def _read_apps(session: Session, *, all_apps: bool) -> list[Selection]:
    """Return the selected apps, whose jobs can run unattended."""
    from dbctl.extensions.schedule.jobs import require_confirmed_cleanup

    apps = _select_apps(session, all_apps=all_apps)
    require_confirmed_cleanup(apps)
    return apps


@Example("schedule cron --app {app}", on=EVERYWHERE)
@Example("schedule cron --all-apps --user root", on="flashpoint-web")
@GROUP.command("cron", answers=lambda: (Page[Job],))
def cron(
    session: Session,
    all_apps: AllApps = False,
    user: Annotated[
        str, option("--user", "NAME", "Generate lines for /etc/cron.d that run as this user.")
    ] = "",
) -> int:
    """Print a crontab with jobs for backup, prune, verify, cleanup and status, as far as the app supports them.

    The lines require no PATH, home or working directory. Comments at the top contain the commands that install
    them.
    """
    from dbctl.extensions.schedule.cron import join_command, write_crontab
    from dbctl.extensions.schedule.jobs import Job, list_jobs

    apps = _read_apps(session, all_apps=all_apps)
    jobs = list_jobs(apps)
    text = write_crontab(jobs, apps, all_apps=all_apps, user=user)
    if session.options.output is not Format.TABLE:
        lines = [
            Job(app=job.app, name=job.name, schedule=job.schedule, command=join_command(job)) for job in jobs
        ]
        page = Page(items=lines, total=len(lines), column_names=Job.__struct_fields__)
        return emit(session, page, target=", ".join(dict.fromkeys(job.app for job in jobs)))
    streams.write_file(text)
    return 0


@Example("schedule systemd --all-apps --install")
@Example("schedule systemd --user --install --dry-run")
@GROUP.command("systemd", answers=lambda: (Page[Unit], UnitsInstalled), only_answers=False)
def systemd(
    session: Session,
    all_apps: AllApps = False,
    install: Annotated[bool, flag("--install", "Write the units, and start the timers.")] = False,
    user: Annotated[bool, flag("--user", "Generate units for the service manager of the user.")] = False,
    directory: Annotated[
        Path | None, option("--directory", "DIR", "With --install: write to DIR; nothing is started.")
    ] = None,
    run_as: Annotated[str, option("--run-as", "NAME", "Run the jobs as this user instead of root.")] = "",
    on_failure: Annotated[
        str,
        option(
            "--on-failure", "UNIT", "Start this unit when a job fails; default: the job notify of the app."
        ),
    ] = "",
    delay: Annotated[
        timedelta,
        duration_option("--delay", "5m", "Longest delay of a start, different for each machine and job."),
    ] = "5m",  # type: ignore[assignment] # the parser converts it
    dry_run: DryRun = False,
) -> int:
    """Print a service and a timer of systemd for each job, or install them.

    A timer makes up for the runs that it missed while the machine was off. The services have restrictions: they
    cannot load kernel modules, change system folders or gain privileges. Secrets of the configuration are
    credentials. --install removes the units of jobs that the configuration no longer has.
    """
    if directory and not (install or dry_run):
        raise UsageError(detail="--directory requires --install")
    if user and run_as:
        raise UsageError(detail="--user and --run-as cannot be combined: these units run as the user")
    if on_failure and not re.fullmatch(r"[\w@%:.\\-]+\.(service|target|path|socket)", on_failure, re.ASCII):
        raise UsageError(detail=f"--on-failure {on_failure!r} is not the name of a unit")
    apps = _read_apps(session, all_apps=all_apps)
    from dbctl.extensions.schedule.jobs import list_jobs

    jobs = list_jobs(apps)
    from dbctl.extensions.schedule.cron import require_user
    from dbctl.extensions.schedule.units import Unit, UnitOptions, create_units

    unit_options = UnitOptions(
        user_units=user,
        run_as=require_user(run_as, "--run-as"),
        on_failure=on_failure,
        delay=f"{int(delay.total_seconds())}s",
    )
    units = create_units(jobs, apps, unit_options)
    if install or dry_run:
        from dbctl.extensions.schedule.cron import InstallUnits

        operation = InstallUnits(units, apps, folder=directory, user_units=user)
        command = operation.start_command
        notes = [f"start the timers with: {command}"] if command and not dry_run else []
        return run_change(session, operation, dry_run=dry_run, notes=notes)
    if session.options.output is not Format.TABLE:
        page = Page(items=units, total=len(units), column_names=Unit.__struct_fields__)
        return emit(session, page, target=", ".join(dict.fromkeys(job.app for job in jobs)))
    streams.write_file("\n".join(f"# {unit.name}\n{unit.text}" for unit in units))
    return 0


@Example("schedule kubernetes --namespace shop", on=EVERYWHERE)
@Example("schedule kubernetes --all-apps --image registry.example.org/dbctl")
@GROUP.command("kubernetes", answers=lambda: (Manifest,))
def kubernetes(
    session: Session,
    all_apps: AllApps = False,
    image: Image = "dbctl",
    namespace: Annotated[str, option("--namespace", "NAME", "Namespace of the CronJobs.")] = "",
) -> int:
    """Print a CronJob of Kubernetes for each job, as YAML.

    The configuration is the secret dbctl-config, variables are in the secret dbctl-variables, and files in the
    volume claim dbctl-data.
    """
    if namespace and not re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise UsageError(detail=f"--namespace {namespace!r} is not the name of a namespace")
    from dbctl.extensions.schedule.jobs import list_jobs

    jobs = list_jobs(_read_apps(session, all_apps=all_apps))
    from dbctl.extensions.schedule.manifests import write_kubernetes

    return _emit_manifest(session, jobs, write_kubernetes(jobs, image=image, namespace=namespace))


@Example("schedule compose", on=EVERYWHERE)
@Example("schedule compose --all-apps --image registry.example.org/dbctl")
@GROUP.command("compose", answers=lambda: (Manifest,))
def compose(
    session: Session,
    all_apps: AllApps = False,
    image: Image = "dbctl",
    scheduler: Annotated[
        str, option("--scheduler", "NAME", "Image of Ofelia, which starts the jobs.")
    ] = "mcuadros/ofelia:latest",
) -> int:
    """Print a Compose file with dbctl and a scheduler that runs the jobs.

    The configuration is in the folder dbctl next to the file.
    """
    from dbctl.extensions.schedule.jobs import list_jobs
    from dbctl.extensions.schedule.manifests import write_compose

    jobs = list_jobs(_read_apps(session, all_apps=all_apps))
    return _emit_manifest(session, jobs, write_compose(jobs, image=image, scheduler=scheduler))


@Example("schedule status --app {app}", on=EVERYWHERE)
@Example("schedule status --all-apps --check")
@GROUP.command("status", answers=lambda: (Page[JobStatus],), findings=True)
def status(
    session: Session,
    all_apps: AllApps = False,
    check: Annotated[bool, flag("--check", "Exit 3 if a job is missing, late, or failed.")] = False,
    directory: Annotated[Path | None, option("--directory", "DIR", "Look for units in DIR only.")] = None,
) -> int:
    """Show which jobs are installed as timers or crontab lines, when they ran last, and when they run next."""
    from dbctl.extensions.schedule.status import read_schedule

    apps = _select_apps(session, all_apps=all_apps)
    report = read_schedule(apps, folder=directory)
    findings = report.findings
    for finding in findings.findings:
        warn(session, f"{finding.target}: {finding.message}")
    is_due = check and bool(findings.findings)
    return emit(
        session,
        report.page,
        status=report.status or (Exit.ACTION_NEEDED if is_due else Exit.OK),
        target=", ".join(dict.fromkeys(job.app for job in report.page.items)),
        findings=findings.raise_warnings() if check else findings,
    )


def _emit_manifest(session: Session, jobs: "Sequence[PlannedJob]", text: str) -> int:

    if session.options.output is Format.TABLE:
        streams.write_file(text)
        return 0
    apps = list(dict.fromkeys(job.app for job in jobs))
    from dbctl.extensions.schedule.manifests import Manifest

    return emit(session, Manifest(apps=apps, jobs=len(jobs), text=text), target=", ".join(apps))
