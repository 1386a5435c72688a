"""``dbctl profiles learn`` and ``prove``: learn what an app writes, and replay the recordings."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from dbctl import progress, signals
from dbctl.cli._support.backups import Identities, PassphraseFiles, load_keys
from dbctl.cli._support.emit import PasswordSource, emit, end_line_on_interrupt, read_password, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.errors.usage import UsageError
from dbctl.extensions.drafts.learning.recordings import SETS_PASSWORD, Action, Subject
from dbctl.render import streams
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.config.model import App as ConfiguredApp
    from dbctl.extensions.drafts.learning.learn import Learned, LearnRequest
    from dbctl.extensions.drafts.learning.proving import ProfileProved
    from dbctl.model import Secret
    from dbctl.services.app.app import App
    from dbctl.services.backup.encryption import DecryptionKeys
    from dbctl.url import Url

GROUP = Group("profiles")


@Example("profiles learn create-user --after 'app add \"$DBCTL_LOGIN\"' --to app.toml")
@Example("profiles learn create-user --before 1.db --after 2.db --login ida --to app.toml")
@GROUP.command("learn", answers=lambda: (Learned,), only_answers=False)
def learn(
    session: Session,
    action: Annotated[Action, argument("ACTION", "What is done in the app.")],
    to: Annotated[
        Path,
        option("--to", "PROFILE", "The file of the profile: extended, or created with a draft of the rest."),
    ],
    login: Annotated[
        str,
        option(
            "--login",
            "LOGIN",
            "Login of the user on whom the app acts; default for a new user of a running app: a generated one.",
        ),
    ] = "",
    before: Annotated[
        list[Path] | None,
        option(
            "--before",
            "FILE",
            "Backup, dump or file of the database before the action; repeatable for several databases.",
        ),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="FILE|COMMAND",
            help="With --before, the same after the action. Otherwise a command line for sh that does the action; "
            "it has DBCTL_LOGIN, DBCTL_EMAIL, DBCTL_PASSWORD, DBCTL_ROLE, DBCTL_SETTING and DBCTL_VALUE.",
        ),
    ] = None,
    email: Annotated[str, option("--email", "EMAIL", "E-mail address that is entered.")] = "",
    role: Annotated[str, option("--role", "ROLE", "Name of the role that is selected.")] = "",
    setting: Annotated[
        str,
        option(
            "--setting",
            "KEY",
            "Of change-setting: the setting that is changed; default: the one that the states show.",
        ),
    ] = "",
    value: Annotated[
        str | None,
        option("--value", "VALUE", "Of change-setting: its new value, as `settings set` takes it."),
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password that is entered, or the API token that the app shows, from standard input; "
            "default for a running app: a generated password.",
        ),
    ] = False,
    users: Annotated[str, option("--users", "TABLE", "Of a new profile: the table of users.")] = "",
    admin: Annotated[
        str,
        option(
            "--admin", "ROLE", "Decide which role admins have; none: the app has no admins among its users."
        ),
    ] = "",
    interface: Annotated[
        str, option("--interface", "TEXT", "How the action was done, such as 'the API'.")
    ] = "",
    watch: Annotated[
        float,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            min=0,
            help="Seconds for which a running app is watched without an action, to see what changes by itself.",
        ),
    ] = 2,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
) -> int:
    """Learn from two states of an app's database what one of its actions writes, and extend the profile.

    Without --before, the databases of --app or --url are read before and after the action, which you do in the running app, or
    which the command of --after does. The rows of all tables are compared. Each changed value is explained by what was entered,
    by the time, by a new key, or as a random or constant value. Each line of the profile that follows has the demonstrations as
    evidence; what stays unexplained is an open decision. The state before the action, and the changes, are recorded next to the
    profile, without encryption.
    """
    from dbctl.extensions.drafts.learning.learn import LearnRequest

    if (setting or value is not None) and action != "change-setting":
        raise UsageError(detail=f"--setting and --value: {action} changes no setting")
    if bool(setting) != (value is not None):
        raise UsageError(detail="--setting and --value: pass both, or neither")
    request = LearnRequest(
        action=action,
        subject=Subject(login=login, email=email, role=role, setting=setting, value=value or ""),
        password=read_password(session, PasswordSource(stdin=True)) if password_stdin else None,
        interface=interface,
        profile=to,
        users=users,
        admin=admin,
        timeout=session.options.timeout,
        create_keys=_share_keys(session, identity, passphrase_file),
    )
    with signals.critical_result():
        if before:
            return emit(session, _learn_files(session, request, before, after or ()))
        return emit(session, _learn_live(session, request, after or (), watch))


def _share_keys(
    session: Session, identities: Sequence[Path] | None, passphrase_file: Sequence[Path] | None
) -> "Callable[[App], DecryptionKeys]":
    """Return what creates the keys for both states, so that a passphrase is entered once."""
    keys = list["DecryptionKeys"]()

    def create(app: "App") -> "DecryptionKeys":
        if not keys:
            keys.append(load_keys(session, app, identities, passphrase_file))
        return keys[0]

    return create


def _learn_files(
    session: Session, request: "LearnRequest", before: Sequence[Path], after: Sequence[str]
) -> "Learned":
    from dbctl.extensions.drafts.learning.learn import learn

    if not after:
        raise UsageError(detail="--before: pass the state after the action, too: --after FILE")
    app = loader.find_app(session.selection) if session.options.app else None
    if not request.subject.login and request.action != "change-setting":
        raise UsageError(detail="--before: name the user on whom the app acted: --login LOGIN")
    return learn(
        structs.replace(
            request,
            before=before,
            after=[*map(Path, after)],
            server=_read_server(session),
            pepper=_read_pepper(app, request.action) if app else None,
        )
    )


def _read_server(session: Session) -> "Url | None":
    """Return the server of ``--url`` that loads the dumps; None: none is passed."""
    urls = loader.parse_urls(session.options.url or (), Path.cwd())
    if len(urls) > 1:
        raise UsageError(detail="--url: pass only the address of the server that loads the dumps")
    return next(iter(urls.values()), None)


def _read_pepper(app: "ConfiguredApp", action: Action) -> "Secret | None":
    """Return the configured secret that an app appends to passwords, if the action sets one; None: there is none."""
    from dbctl.config.secrets import read_pepper

    is_used = action in SETS_PASSWORD and (app.pepper_file or app.pepper_env)
    return read_pepper(app) if is_used else None


def _learn_live(session: Session, request: "LearnRequest", after: Sequence[str], watch: float) -> "Learned":
    from dbctl.extensions.drafts.learning import live

    if len(after) > 1:
        raise UsageError(detail="--after: without --before, it is one command line")
    if not (after or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise UsageError(
            detail="no terminal to wait for the action: pass --after COMMAND, or --before FILE and --after FILE"
        )
    action, subject = request.action, live.generate_subject(request.action, request.subject)
    if not subject.login and action != "change-setting":
        raise UsageError(detail=f"{action}: name the user on whom the app acts: --login LOGIN")
    password = request.password
    if action in SETS_PASSWORD and not password:
        password = live.generate_password()
    app = loader.find_app(session.selection)
    request = structs.replace(request, subject=subject, password=password, pepper=_read_pepper(app, action))
    source = live.LiveSource(app=app, database=session.options.db, watch_seconds=watch)

    def perform() -> None:
        if after:
            live.run_command(after[0], subject, password)
            return
        with progress.pause(), end_line_on_interrupt():
            streams.remark(live.describe_action(action, subject, password))
            streams.remark("Then press Enter: ")
            if not sys.stdin.readline():
                raise typer.Abort

    with show_progress(session, "comparing"):
        return live.learn_live(request, source, perform)


@Example("profiles prove app.toml")
@Example("profiles prove app.toml --dry-run")
@GROUP.command("prove", answers=lambda: (ProfileProved,), only_answers=False, has_plan=False)
def prove(
    session: Session,
    profile: Annotated[Path, argument("PROFILE", "The file of the profile.")],
    action: Annotated[
        Action | None, option("--action", "ACTION", "Replay only the recordings of this action.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Compare only, and write no proofs to the profile.")
    ] = False,
) -> int:
    """Replay the recorded demonstrations of a profile with dbctl's own commands, and compare the rows.

    Each command changes a private copy of the state before the action. Its rows must be those that the app wrote, except for
    times, new keys, random values, and hashes of passwords of the same format. Exit 4 if they are not.

    The configuration of the app, as of --app, has the secret that it appends to passwords, if it does that.

    The section proven of the profile has the actions whose recordings all agree. A later change of the users, or of the settings, of
    the profile makes their proofs outdated.
    """
    from dbctl.extensions.drafts.learning import proving

    request = proving.ProveRequest(
        profile=profile,
        action=action,
        server=_read_server(session),
        timeout=session.options.timeout,
        selection=session.selection,
        stored=not dry_run,
    )
    result = proving.prove(request)
    return emit(session, result, status=result.status)
