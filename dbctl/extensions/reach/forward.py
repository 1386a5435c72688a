"""Run a command with dbctl of the machine that has the files of its app: same words, input, output, terminal, signals and status."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from dbctl import __version__, signals
from dbctl.cli._support.emit import note
from dbctl.cli._support.options import WORDS, CommonOptions, common_parameter_names
from dbctl.config.model import STATE_OFF
from dbctl.config.secrets import read_pepper
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ReadOnlyError
from dbctl.errors.operations import CommitInDoubtError
from dbctl.extensions.reach.errors import (
    RouteDbctlMissingError,
    RouteDbctlVersionError,
    RouteError,
    RouteLocalNeedError,
)
from dbctl.extensions.reach.machines import SshMachine
from dbctl.extensions.reach.routes import ROUTES
from dbctl.files import toml
from dbctl.files.ssh import choose_reason
from dbctl.files.subprocesses import ClientProgram, ProgramWatch, run_program
from dbctl.profiles import loader
from dbctl.render.streams import supports_color
from dbctl.services.app.app import App

if TYPE_CHECKING:
    from typer._click import Parameter

    from dbctl.cli._support.session import Session
    from dbctl.config import model
    from dbctl.url import Url


#: pipx and pip install for a user, whose folder the PATH of a command through ssh rarely has.
_PATH = "PATH=$PATH:/usr/local/bin:$HOME/.local/bin"
#: Prints the version of the dbctl that the machine runs.
_VERSION = ["sh", "-c", f"{_PATH}; dbctl --version"]
#: Prints the version of dbctl, stores files in a private folder, of which it prints the name, and then sends the signals that it reads to
#: the process in ``pid``. The end of its input is that of dbctl here, or of the connection: it ends the process, and deletes the folder.
#: That of a watcher that was killed itself is deleted by the next one.
#:
#: ``$1`` is the line that ends a file, and the list of files, whose names precede them.
_WATCHER = f"""umask 077; {_PATH}
folder=
finish() {{ [ -z "$folder" ] || {{ cd /; rm -rf -- "$folder"; }}; }}
trap finish EXIT; trap 'exit 143' HUP INT TERM PIPE
version=$(dbctl --version < /dev/null 2> /dev/null) || version=
echo "dbctl-version $version"
IFS= read -r name || exit 0
folder=$(mktemp -d "${{TMPDIR:-/tmp}}/dbctl-forward-XXXXXXXX") && cd "$folder" && echo $$ > watcher || exit 1
for other in "${{TMPDIR:-/tmp}}"/dbctl-forward-*; do
  [ ! -s "$other/watcher" ] || kill -0 "$(cat "$other/watcher")" 2> /dev/null || rm -rf -- "$other"
done
until [ "$name" = "$1" ]; do
  while IFS= read -r line || exit 1; [ "$line" != "$1" ]; do printf '%s\\n' "$line"; done > "$name" || exit 1
  IFS= read -r name || exit 1
done
echo "dbctl-folder $folder"
while read -r number; do
  tries=0; until [ -s pid ] || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1; done
  kill -s "$number" "$(cat pid)"
done
[ -s pid ] && kill -s TERM "$(cat pid)" && while kill -0 "$(cat pid)"; do sleep 1; done
exit 0
"""
_RUN = f"""echo $$ > pid || exit 1
{_PATH}; export PATH; unset DBCTL_CONFIG DBCTL_APP DBCTL_OUTPUT
exec dbctl """
#: The words are in a file, not in those of ssh, so that the shell of the login does not read them.
_START = 'cd "$1" && exec sh ./run'
_LOST = 255  #: the status of ssh if its connection was lost, or the process there was killed


def forward_command(session: Session, configured: model.App) -> int | None:
    """Run the command of a session on the machine of an app; return its status, or None if it runs here, and reads a copy.

    Raises:
        ReadOnlyError: that machine cannot run it, and it would change the app.
        RouteError: the machine cannot be reached.
        CommitInDoubtError: the connection was lost.
    """
    app = App(session, configured, loader.load_core(configured.profile))
    vias, params = {url.via for url in app.configured.databases.values()}, session.ctx.params
    reads_only = bool(not session.spec.writes or params.get("dry_run") or params.get("check"))
    if not all(via.startswith("ssh:") for via in vias):
        return None  # a volume of a container of this machine
    try:
        is_machine = all(part.startswith("ssh:") for via in vias for part in via.split())
        if len(vias) > 1 or not is_machine or configured.fleet or configured.reads_replicas:
            app.require_primary(next(iter(app.configured.databases)))
        return _Forwarder(session, app, vias.pop(), reads_only=reads_only).run()
    except ReadOnlyError as refusal:
        if not reads_only:
            raise
        subject = "the log of this machine" if session.spec.reads_log else "the result for a copy"
        note(session, f"{refusal}; so this is {subject}")
        return None


class _Forwarder:
    """The command of a session, and the machine that runs it."""

    def __init__(self, session: Session, app: App, via: str, *, reads_only: bool) -> None:
        self._session, self._app, self._reads_only = session, app, reads_only
        name, url = next(iter(app.configured.databases.items()))
        self._facts = {"target": app.target(name), "part": via}
        self._path, self._end = url.path, secrets.token_hex(16)
        self._place = via.rsplit(maxsplit=1)[-1].removeprefix("ssh:")
        self._require_nothing()
        machine = ROUTES.find_end(via, app.target(name))
        if not isinstance(machine, SshMachine):
            raise TypeError(f"{via} does not end at a machine")
        self._machine = machine

    def _require_nothing(self) -> None:
        """Refuse a command that needs more than the databases of the app; the machine is not asked for it."""
        session, hint = self._session, ""
        spec = session.spec
        need = spec.writes.needs if spec.writes else ""
        if spec.action in self._app.configured.hooks:
            need = f"the hooks of {spec.action}"
        elif file := _find_local_file(session):
            need = f"the file {file}"
            hint = "Pass it by standard input, if the command can read that (- or --password-stdin). "
        if need:
            command = shlex.join(["dbctl", *spec.name.split()])
            raise RouteLocalNeedError(
                **self._facts, path=self._path, need=need, hint=hint, command=command, place=self._place
            )

    def run(self) -> int:
        """Return the exit status of the command on the machine.

        Raises:
            ReadOnlyError: it has no dbctl, or another version of it.
            RouteError, CommitInDoubtError: as ``forward_command``.
        """
        words = self._machine.wrap(["sh", "-c", _WATCHER, "dbctl", self._end])
        watch = ProgramWatch(target=self._facts["target"], hint="Run it again.")
        with run_program(words, dict(os.environ), watch=watch, reads=True, writes=True) as watcher:
            lines = _read_lines(watcher)
            self._require_version(self._receive("dbctl-version", watcher, lines))
            run = _RUN + shlex.join(["--app", self._app.name, *_write_words(self._session)])
            for name, text in {**_list_files(self._session, self._app), "run": run}.items():
                watcher.write(os.fsencode(f"{name}\n{text.removesuffix(chr(10))}\n{self._end}\n"))
            watcher.write(f"{self._end}\n".encode())
            folder = self._receive("dbctl-folder", watcher, lines)
            note(self._session, f"{self._place} runs this command")
            status = self._run_in(folder, watcher)
            watcher.finish(interruptible=False)  # it has deleted the folder
        return status

    def _receive(self, name: str, watcher: ClientProgram, lines: Iterator[str]) -> str:
        """Return what follows a name in the output of the watcher, before which start scripts of the login may write."""
        for line in lines:
            if line.startswith(f"{name} "):
                return line.removeprefix(f"{name} ").strip()
        watcher.finish()
        report = watcher.error_output().splitlines() or [*self._machine.read_report()] or ["it has ended"]
        target = self._facts["target"]
        command = self._machine.describe(_VERSION)
        raise (
            self._machine.explain(target, report)
            or self._machine.find_loss(target)
            or RouteError(**self._facts, reason=choose_reason(report), command=command)
        )

    def _require_version(self, output: str) -> None:
        version = output.removeprefix("dbctl ")
        if version == __version__:
            return
        facts = {**self._facts, "path": self._path, "version": __version__, "place": self._place}
        facts["command"] = self._machine.describe(_VERSION)
        if not version:
            raise RouteDbctlMissingError(**facts)
        raise RouteDbctlVersionError(**facts, remote=choose_reason([version]))

    def _run_in(self, folder: str, watcher: ClientProgram) -> int:
        """Run the command in the folder with its files; a signal is sent there, and its end is waited for."""
        program, *words = self._machine.wrap(["sh", "-c", _START, "dbctl", folder])
        has_terminal = all(os.isatty(descriptor) for descriptor in (0, 1, 2)) and _is_in_foreground()
        # without the remarks of ssh, and without its escape sequences in what the user types
        options = ["-q", *(["-t", "-e", "none"] if has_terminal else [])]
        # in the background, it would take what the user types for the shell
        reads_input = not os.isatty(0) or _is_in_foreground()
        with signals.defer_signals():
            # Ctrl-C reaches it as a character of the terminal, otherwise by the watcher, and never ssh itself.
            process = subprocess.Popen(  # noqa: S603
                [program, *options, *words],
                stdin=None if reads_input else subprocess.DEVNULL,
                start_new_session=not has_terminal,
            )
        try:
            signals.raise_if_interrupted()
            process.wait()
        except signals.Interrupted as error:
            with signals.block_signals():
                watcher.write(f"{error}\n".removeprefix("SIG").encode())
                process.wait()
                if self._is_lost(process.returncode) and not self._machine.find_loss(self._facts["target"]):
                    raise  # dbctl there had not begun
        signals.ignore_signals_until_exit()
        if self._is_lost(process.returncode):
            raise self._create_loss()
        return process.returncode

    @staticmethod
    def _is_lost(status: int) -> bool:
        """Whether ssh, its connection, or the process there was killed."""
        return status == _LOST or status < 0

    def _create_loss(self) -> DbctlError:
        loss = self._machine.find_loss(self._facts["target"])
        reason = loss.context["reason"] if loss else f"dbctl was killed on {self._place}"
        if not self._reads_only:
            return CommitInDoubtError(target=self._facts["target"], reason=reason)
        return loss or RouteError(**self._facts, reason=reason, command=self._machine.describe(_VERSION))


def _is_in_foreground() -> bool:
    """Whether this process may read its terminal, and change its mode."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # the terminal does not control it, nor its jobs
        return True


def _read_lines(watcher: ClientProgram) -> Iterator[str]:
    """Yield the complete lines of its output."""
    rest = b""
    for block in watcher.blocks(watched=False):
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


#: Common options about this machine: those that select the app, its log, and the colors, of which this terminal decides.
_LOCAL = frozenset({
    "config", "app", "profile", "url", "replica", "log_file", "log_format", "log_level", "color", "no_color"
})  # fmt: skip


def _write_words(session: Session) -> Sequence[str]:
    """Return the words of the command, without ``dbctl`` and without the options that select an app."""
    words, arguments = session.spec.name.split(), list[str]()
    words += _write_common_options(session)
    for parameter, values in _list_values(session):
        if parameter.param_type_name == "argument":
            arguments += map(str, values)
        elif isinstance(values[0], bool):
            words.append(parameter.opts[0] if values[0] else parameter.secondary_opts[0])
        else:
            words += [f"{parameter.opts[0]}={value}" for value in values]
    return [*words, "--", *arguments]


def _find_local_file(session: Session) -> str:
    """Return the file of this machine that the command line names for a parameter of the command; empty: it names none."""
    for parameter, values in _list_values(session):
        is_file = parameter.type.name == "path" or str(parameter.metavar).endswith("FILE")
        if is_file and values[-1] != "-":
            return str(values[-1])
    return ""


def _list_values(session: Session) -> Iterator[tuple[Parameter, Sequence[str | bool]]]:
    """Yield the parameters of the command itself that the command line has, with their values as typed; of a flag, a boolean."""
    ctx, common = session.ctx, common_parameter_names()
    values, _, _ = ctx.command.make_parser(ctx).parse_args([*ctx.meta[WORDS]])
    for parameter in ctx.command.params:
        value = values.get(parameter.name or "")
        if parameter.name not in common and value not in (None, ()):
            yield parameter, value if isinstance(value, (list, tuple)) else [value]


def _write_common_options(session: Session) -> Iterator[str]:
    defaults = CommonOptions(timeout=session.spec.timeout)
    for parameter in session.ctx.find_root().command.params:
        name = parameter.name or ""
        value = getattr(session.options, name, None)
        if name in _LOCAL or value == getattr(defaults, name, None):
            continue
        yield parameter.opts[0] if value is True else f"{parameter.opts[0]}={value}"
    yield f"--color={'always' if supports_color(sys.stdout) else 'never'}"


#: The files of the configuration on the machine of an app.
_PROFILE, _PEPPER = "profile.toml", "pepper"


def _list_files(session: Session, app: App) -> Mapping[str, str]:
    """Return the texts of the files by their names: the configuration on that machine, which is what dbctl there needs, and what it refers to.

    Raises:
        PepperMissingError: the secret that the app appends to passwords is configured, and cannot be read.
    """
    configured, files = app.configured, dict[str, str]()
    section: dict[str, str | bool] = {"profile": configured.profile, "protected": configured.protected}
    if not loader.find_profile(configured.profile):
        section["profile"] = f"./{_PROFILE}"
        files[_PROFILE] = toml.read_text(loader.path_of(configured.profile))
    if configured.require:
        section["require"] = configured.require
    if configured.prefix is not None:
        section["prefix"] = configured.prefix
    if configured.pepper_file or configured.pepper_env:
        section["pepper_file"] = _PEPPER
        files[_PEPPER] = read_pepper(configured).reveal()
    audit = session.journal.audit
    tables: dict[str, Mapping[str, str | bool | int]] = {
        f"apps.{toml.quoted(app.name)}": section,
        f"apps.{toml.quoted(app.name)}.databases": {
            name: _write_address(url) for name, url in configured.databases.items()
        },
        "audit": {"required": audit.required, "values": audit.values, "max_rows": audit.max_rows},
    }
    if configured.state == STATE_OFF:
        tables["journal"] = {"folder": STATE_OFF}
    files["dbctl.toml"] = "\n".join(
        line for name, table in tables.items() for line in (f"[{name}]", *map(_write_key, table.items()))
    )
    return files


def _write_key(item: tuple[str, str | bool | int]) -> str:
    name, value = item
    text = toml.quoted(value, value=True) if isinstance(value, str) else str(value).lower()
    return f"{toml.quoted(name)} = {text}"


def _write_address(url: Url) -> str:
    """Return the address without its route; a relative path begins in the home of the login, and nothing in it is a variable."""
    path = url.path if url.path.startswith(("/", "~/")) else f"~/{url.path}"
    return f"{url.engine}:{quote(path)}"
