"""``dbctl profiles learn``: learn what an app writes."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.errors.usage import UsageError
from dbctl.extensions.drafts.learning.recordings import Action
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.extensions.drafts.learning.learn import Learned

GROUP = Group("profiles")


@Example(
    "profiles learn create-user --before 1.sql.gz --after 2.sql.gz --login ida --password-stdin --to app.toml"
)
@Example("profiles learn set-password --before before.db --after after.db --login alice --to app.toml")
@GROUP.command("learn", answers=lambda: (Learned,), only_answers=False)
def learn(
    session: Session,
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="What was done in the app.")],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="PROFILE",
            help="The file of the profile: extended, or created with a draft of the rest.",
        ),
    ],
    login: Annotated[
        str, typer.Option("--login", metavar="LOGIN", help="Login of the user on whom the app acted.")
    ],
    before: Annotated[
        list[Path],
        typer.Option(
            "--before",
            metavar="FILE",
            help="Backup, dump or file of the database before the action; repeatable for several databases.",
        ),
    ],
    after: Annotated[list[Path], typer.Option("--after", metavar="FILE", help="The same after the action.")],
    email: Annotated[
        str, typer.Option("--email", metavar="EMAIL", help="E-mail address that was entered.")
    ] = "",
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="Name of the role that was selected.")
    ] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password that was entered from standard input.")
    ] = False,
    users: Annotated[
        str, typer.Option("--users", metavar="TABLE", help="Of a new profile: the table of users.")
    ] = "",
    interface: Annotated[
        str, typer.Option("--interface", metavar="TEXT", help="How the action was done, such as 'the API'.")
    ] = "",
) -> int:
    """Learn from two states of an app's database what one of its actions writes, and extend the profile.

    The rows of all tables are compared. Each changed value is explained by what was entered, by the time, by a new key, or as a
    random or constant value. Each line of the profile that follows has the demonstrations as evidence; what stays unexplained is an
    open decision. The state before the action, and the changes, are recorded next to the profile.
    """
    from dbctl.cli._support.emit import PasswordSource, read_password
    from dbctl.extensions.drafts.learning import learn as learning
    from dbctl.extensions.drafts.learning.recordings import Subject

    password = read_password(session, PasswordSource(stdin=True)) if password_stdin else None
    urls = loader.parse_urls(session.options.url or (), Path.cwd())
    if len(urls) > 1:
        raise UsageError(detail="--url: pass only the address of the server that loads the dumps")
    request = learning.LearnRequest(
        action=action,
        subject=Subject(login=login, email=email, role=role),
        password=password,
        interface=interface,
        before=before,
        after=after,
        profile=to,
        users=users,
        server=next(iter(urls.values()), None),
        timeout=session.options.timeout,
    )
    return emit(session, learning.learn(request))
