"""``dbctl help``: topics that concern every command, and the help of a command."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from typer.core import TyperGroup

from dbctl.cli._catalog import omit_absent, read_catalog
from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument
from dbctl.cli._support.session import Session
from dbctl.errors.base import Exit, Remedy, load_registry
from dbctl.errors.usage import HelpTopicMissingError
from dbctl.model import Struct
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.render.tables import color_help
from dbctl.spec import Example

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

GROUP = Group("help", section="Automate", position=10, help="Help about a topic, or a command.")

EXIT_CODES: Mapping[Exit, str] = {
    Exit.OK: "The command succeeded, or there was nothing to do.",
    Exit.FAILED: "The work failed. The message describes what was changed.",
    Exit.USAGE: "Wrong arguments, values or configuration, or the app lacks the feature. Nothing was changed.",
    Exit.ACTION_NEEDED: "Only with --check: pending migrations, an overdue backup, due rows.",
    Exit.CHECK_FAILED: "A check found an error: damage, drift, a backup that fails verification.",
    Exit.NOT_FOUND: "No such user, role, setting, backup, migration, table or file.",
    Exit.REFUSED: "A rule prevented the change: a read-only database, the last admin, a missing confirmation.",
    Exit.UNREACHABLE: "A database or a store cannot be reached or opened.",
    Exit.BUSY: "Another process holds a lock for longer than --timeout.",
    Exit.PARTIAL: "Several targets: some succeeded, some did not. Each is reported.",
    Exit.BROKEN_PIPE: "The reader of the output closed the pipe.",
}
SIGNALS = {
    "129": "SIGHUP. The change was rolled back, and temporary files were removed.",
    "130": "SIGINT (Ctrl-C), with the same effect.",
    "143": "SIGTERM, with the same effect.",
}
ENVIRONMENT: Mapping[str, str] = {
    "DBCTL_APP": "The app, as --app.",
    "DBCTL_BACKUP_IDENTITY_FILE": "A file with an age identity that decrypts backups.",
    "DBCTL_BACKUP_PASSPHRASE_FILE": "A file with the passphrase that decrypts backups.",
    "DBCTL_CONFIG": "The configuration file, as --config.",
    "DBCTL_LOG_FILE": "The log, as --log-file.",
    "DBCTL_LOG_FORMAT": "The format of the log, as --log-format.",
    "DBCTL_LOG_LEVEL": "The level of the log, as --log-level.",
    "DBCTL_OUTPUT": "The output format, as --output.",
    "DBCTL_RECORD": "all: the journal also contains the runs of commands that only read.",
    "DBCTL_STATE": "The directory of the journal and of the records of runs on fleets; off: no records.",
    "AWS_…": "Keys, region and endpoint of S3 storage, as the AWS tools read them.",
    "BASH_COMPLETION_USER_DIR": "Where completions install writes for bash.",
    "CLICOLOR": "0 disables colors.",
    "CLICOLOR_FORCE": "A value other than 0 enables colors, also in a pipe, as --color always.",
    "COLUMNS": "The width of the terminal.",
    "CREDENTIALS_DIRECTORY": "The credentials of the systemd service: secrets by their names.",
    "DBCTL_PAGER": "The pager for long output, instead of that of PAGER; cat disables it.",
    "EDITOR": "The editor of config edit, if VISUAL is not set.",
    "LINES": "The height of the terminal.",
    "NAME_FILE": "For each variable NAME that the configuration or S3 storage reads: a file that contains its value.",
    "NO_COLOR": "Any value disables colors, as --color never.",
    "PAGER": "The pager of all programs; default: less, with LESS=FRX unless LESS is set.",
    "SHELL": "The shell for completions install.",
    "SUDO_USER": "The name that is recorded as author of changes, if root runs dbctl.",
    "TERM": "dumb disables colors, progress, and tables that fit the terminal.",
    "TMPDIR": "Where staged files of backups are written.",
    "TZ": "The time zone of times without one, and of statements that backup recover replays.",
    "VISUAL": "The editor of config edit.",
    "XDG_CACHE_HOME": "The directory of external search indexes.",
    "XDG_CONFIG_HOME": "The directory of the configuration and of profiles.",
    "XDG_DATA_HOME": "Where completions install and man install write.",
    "XDG_RUNTIME_DIR": "The directory of the private sockets of routes; by default that for temporary files.",
    "XDG_STATE_HOME": "The directory of the directory dbctl with the journal and the records of runs on fleets.",
}
CONFIG = """\
dbctl reads the file of --config or DBCTL_CONFIG, otherwise the first of
./dbctl.toml, the file of the user (~/.config/dbctl/dbctl.toml on Linux) and
that of the system; then the files dbctl.d/*.toml next to it. Paths are relative
to the folder of dbctl.toml. dbctl init writes it:

  [apps.blog]
  profile = "wordpress"

  [apps.blog.databases]
  main = "mysql://dbctl:${BLOG_PASSWORD}@localhost/blog"

  [apps.blog.backup]
  repository = "backups"
  keep = { last = 7, daily = 14, weekly = 8, monthly = 12 }
  max_age = "26h"

${NAME} is a variable of the app's env_file, a secret ([secrets.NAME] with file
or command), a variable of the environment, the content of the file that
NAME_FILE names, a systemd credential, or a secret of the container.

  dbctl config explain         every key with its type, default and meaning
  dbctl config explain backup  the keys of one section
  dbctl config show            the keys that are set, with their lines
  dbctl config edit            edit it; an invalid file is not installed
  dbctl config validate        errors in the configuration and its profiles

A * in the address of a database is the name of an instance of a fleet: commands
run on all instances, or on one with --app APP/NAME (dbctl apps instances).

Without a configuration: dbctl --profile PROFILE --url NAME=URL COMMAND
"""
PROFILES = """\
A profile describes an application: its databases, users, roles, settings,
sessions, searches, migrations and cleanup. dbctl has profiles of popular
applications. Every other app needs a profile file and no code.

  dbctl profiles list          the profiles that dbctl finds, by name
  dbctl profiles draft URL     a draft for an app, from its live database
  dbctl apps check FILE        errors in a profile, with their lines
  dbctl apps check --app NAME  whether the live databases match the profile
  dbctl apps show PROFILE      the databases and features of a profile

A profile without a path is searched in the package, in
~/.config/dbctl/profiles, and in the configuration directory of the system.
"""


class HelpText(Struct, frozen=True, kw_only=True):
    """Result of ``help``."""

    topic: str
    text: str


def _write_options(ctx: "Context", formatter: "HelpFormatter") -> None:
    formatter.write_text("These options can be placed before or after the name of any command.")
    formatter.write_paragraph()
    formatter.write_dl(describe_common_options(ctx))


def _write_exit_codes(_ctx: "Context", formatter: "HelpFormatter") -> None:
    rows = [
        (f"{int(status)}  {status.name.lower().replace('_', '-')}", text)
        for status, text in EXIT_CODES.items()
    ]
    formatter.write_dl([*rows, *SIGNALS.items()])


#: Topics by name: a text, or a function that writes it.
TOPICS: Mapping[str, str | Callable[["Context", "HelpFormatter"], None]] = {
    "options": _write_options,
    "exit-codes": _write_exit_codes,
    "config": CONFIG,
    "profiles": PROFILES,
    "environment": lambda _ctx, formatter: formatter.write_dl(list(ENVIRONMENT.items())),
}


@Example("help wal-leftover", on="flashpoint-web")
@Example("help backup create", on="custom samples")
@GROUP.command(answers=lambda: (HelpText,))
def help_(
    session: Session,
    words: Annotated[
        list[str] | None,
        argument(
            "[TOPIC|COMMAND|CODE]",
            f"A topic ({', '.join(TOPICS)}), a command, or the code of an error or of a finding.",
        ),
    ] = None,
) -> int:
    """Print the help of a topic or of a command, or the meaning of a code."""
    text = _create_text(session.ctx, words or [])
    if session.options.output is Format.TABLE:
        streams.write(color_help(text, sys.stdout))
        return Exit.OK
    return emit(session, HelpText(topic=" ".join(words or []), text=text))


def _create_text(ctx: "Context", words: Sequence[str]) -> str:
    topic = TOPICS.get(" ".join(words))
    if isinstance(topic, str):
        return omit_absent(topic)
    if topic:
        formatter = ctx.make_formatter()
        topic(ctx, formatter)
        return formatter.getvalue()
    if len(words) == 1 and words[0] not in read_catalog().groups and (text := _describe_code(ctx, words[0])):
        return text
    return _command_help(ctx, words) + "\n"


def _describe_code(ctx: "Context", code: str) -> str:
    """Return what the reference contains about the code of an error, a finding or a lint rule; empty: no such code."""
    from dbctl.extensions import registry
    from dbctl.render.reports import read_subjects
    from dbctl.services.migrations.lint_rules import LINT_RULES

    formatter = ctx.make_formatter()
    if error := load_registry().get(code):
        status = f"exit code {int(error.exit_status)}"
        remedy = Remedy(error.remedy).describe([*registry.list_absent()])
        _write_meaning(formatter, f"Error, {status}", error.sentence, remedy)
    if rule := LINT_RULES.get(code):
        _write_meaning(formatter, f"Finding of migrate lint ({rule.severity})", rule.hint)
    for subject in read_subjects():
        for entry in subject.entries:
            if code in entry.codes:
                title = f"Finding of {', '.join(entry.commands or subject.commands)} ({', '.join(entry.severities)})"
                _write_meaning(formatter, title, entry.meaning, entry.action)
    return formatter.getvalue().lstrip("\n")


def _write_meaning(formatter: "HelpFormatter", title: str, *paragraphs: str) -> None:
    with formatter.section(title):
        for paragraph in paragraphs:
            formatter.write_text(paragraph.replace("`", ""))


def _command_help(ctx: "Context", words: Sequence[str]) -> str:
    """Return the help of the command that ``words`` name; of dbctl itself without words.

    Raises:
        HelpTopicMissingError: no topic or command has this name.
    """
    current = ctx.find_root()
    arguments = list(words)
    while arguments:
        command = current.command
        if not isinstance(command, TyperGroup) or arguments[0] not in command.list_commands(current):
            raise HelpTopicMissingError(
                name=" ".join(words), names=", ".join(TOPICS), candidates=[*TOPICS, *read_catalog().groups]
            )
        name, child, arguments = command.resolve_command(current, arguments)
        assert child is not None  # noqa: S101 - it is in the list
        current = child.make_context(name, [], parent=current, resilient_parsing=True)
    return current.get_help()


def describe_common_options(ctx: "Context") -> list[tuple[str, str]]:
    """Return the names and the help of the common options, and of those of ``dbctl`` itself."""
    root = ctx.find_root()
    records = [param.get_help_record(root) for param in root.command.get_params(root)]
    return [record for record in records if record]
