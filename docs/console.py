"""Run the commands of documentation pages on a terminal of 100 columns: print, write or check their output.

    python docs/console.py show|write|check PAGE…

A page is Markdown. Blocks of language ``console`` contain commands after ``$ ``, each followed by its output. The blocks of a page
run in order in a new folder; an exit code other than 0 is shown as ``[exit N]``. ``VOLATILE`` replaces output that differs
between runs, such as times. The commands of a comment ``<!-- console … -->``, which no reader sees, prepare what the page needs, and
must succeed. A block whose language is followed by a name, such as ``toml shop.toml``, is a file of that name.
A page that contains ``postgres@localhost`` gets a PostgreSQL server under that name, with ``127.0.0.2`` a second one, ``mysqld.sock`` a MariaDB server with that socket,
``s3://example-backups`` a storage server with that bucket and its keys, ``dbctl init DIR`` the application of ``DEPLOYMENTS`` in that directory.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
from msgspec import structs

COLUMNS, LINES = 100, 50
#: The parent of the folders in which commands run: the length of its path decides where output is wrapped.
PARENT = Path("/tmp")  # noqa: S108 - a private folder is created in it
#: The address of the PostgreSQL server in a page; its port comes from PGPORT.
SERVER = "postgres@localhost"
#: The address of a second, empty server with the same port.
NEW_SERVER = "127.0.0.2"
#: The socket of the MariaDB server in a page.
SOCKET = "mysqld.sock"
#: The bucket of the storage server in a page.
BUCKET = "example-backups"
#: The deployed applications of pages, by directory.
DEPLOYMENTS = {"vw-data": "vaultwarden", "mysite": "django", "blog": "wordpress"}
#: Output that differs between runs, and its replacement in a page.
VOLATILE: dict[re.Pattern[str], str | Callable[[re.Match[str]], str]] = {
    re.compile(r"(?<!\d)\d{8}_\d{6}(?!\d)"): "YYYYMMDD_HHMMSS",
    re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"): "YYYY-MM-DD HH:MM UTC",
    re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"): "YYYY-MM-DD HH:MM:SS UTC",
    re.compile(r"\d+ (?:s|min) ago"): "just now",
    re.compile(r" in \d+(?:\.\d)? m?s(?=:|$)", re.MULTILINE): " in N ms",
    re.compile(r"\b\d+\.\d+ s\b"): "N.N s",
    re.compile(
        r"^((?:Archived|Backed up|Copied|Deleted|Adopted) [^:]*: )[\d.]+ (?:[KMG]i)?B", re.MULTILINE
    ): r"\1N.N MiB",
    # a compressed backup has random tokens, so that its size differs
    re.compile(r"(^  bytes +|just now +)\d+\.\d KiB", re.MULTILINE): r"\1NN.N KiB",
    re.compile(r"  +\d+ m?s\b"): lambda match: "N ms".rjust(len(match[0])),  # a column
    re.compile(r" \d+ ms\b"): " N ms",
}
#: A command without shell syntax.
PLAIN_COMMAND = re.compile(r"dbctl(?: (?:[\w.,:/=@%+-]+|'[^']*'))*")
BLOCK = re.compile(
    r"^(?:```console|```\w+ (?P<file>\S+)|(?P<hidden><!-- console))\n(?P<text>.*?)^(?(hidden)-->|```)$",
    re.MULTILINE | re.DOTALL,
)


class Terminal:
    """Runs commands in one folder, each on a new terminal."""

    def __init__(self, folder: Path, page: str) -> None:
        self._folder = self._directory = folder.resolve()
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "PAGER": "cat",
            "TERM": "xterm-256color",
            "TZ": "UTC",
        }
        sys.path.insert(0, str(Path(__file__).parents[1]))
        apps = {path: app for path, app in DEPLOYMENTS.items() if f"$ dbctl init {path}\n" in page}
        if SERVER in page:
            from tests import servers

            port = servers.listening_postgresql().port
            self._environment["PGPORT"] = str(port)
            if NEW_SERVER in page:
                servers.listening_postgresql(NEW_SERVER, int(str(port)))
        if SOCKET in page or "wordpress" in apps.values():
            from tests import servers

            mysql = servers.private_mysql("--log-bin=mysql-bin")
            (folder / SOCKET).symlink_to(mysql.options.partition("=")[2])
        if f"s3://{BUCKET}" in page:
            from tests import storage

            storage.send_request(storage.port(), "PUT", f"/{BUCKET}")
            waiting = folder / ".waiting"
            waiting.mkdir()
            self._environment |= storage.variables() | {"TMPDIR": str(waiting)}
        for path, app in apps.items():
            from tests.profiles.apps import deployments

            socket = f"unix_socket={folder.resolve() / SOCKET}"
            server = structs.replace(mysql, options=socket) if app == "wordpress" else None
            deployments.deploy(app, folder / path, server)

    def put(self, name: str, text: str) -> None:
        """Write a file, where the commands run."""
        (self._directory / name).write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        """Return what ``command`` prints, each line without blanks at its end."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        if PLAIN_COMMAND.fullmatch(command):
            output, status = self._run_forked(shlex.split(command), ours, theirs)
        else:
            output, status = self._run_in_shell(command, ours, theirs)
        os.close(ours)
        lines = [line.rstrip() for line in _replace_volatile(output.decode()).splitlines()]
        if status:
            lines.append(f"[exit {status}]")
        return "".join(f"{line}\n" for line in lines)

    def prepare(self, commands: str) -> None:
        """Run commands, one a line, whose output a page does not show.

        Raises:
            RuntimeError: one of them failed
        """
        for command in commands.splitlines():
            printed = self.run(command.removeprefix("$ "))
            if re.search(r"^\[exit \d+\]$", printed, re.MULTILINE):
                message = f"{command}\n{printed}"
                raise RuntimeError(message)

    def _run_in_shell(self, command: str, ours: int, theirs: int) -> tuple[bytes, int]:
        """Run ``command`` with bash, and close ``theirs``; return its output and exit code."""
        place = self._folder / ".place"
        script = f"{command}\nstatus=$?\npwd > {shlex.quote(str(place))}\nexit $status"
        with subprocess.Popen(
            ["bash", "-c", script],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self._directory,
            env=self._environment,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            output = b"".join(_read(ours))
        if place.exists():
            self._directory = Path(place.read_text(encoding="utf-8").strip())
        return output, process.returncode

    def _run_forked(self, words: list[str], ours: int, theirs: int) -> tuple[bytes, int]:
        """Like ``_run_in_shell``, without the start of an interpreter, which takes longer than most commands."""
        child = os.fork()
        if not child:
            try:
                self._become_command(words, theirs)
            finally:
                os._exit(99)
        os.close(theirs)
        output = b"".join(_read(ours))
        return output, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _become_command(self, words: list[str], terminal: int) -> None:
        os.setsid()
        os.chdir(self._directory)
        os.environ.clear()
        os.environ.update(self._environment)
        for descriptor in range(3):
            os.dup2(terminal, descriptor)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = words
        from dbctl.__main__ import run

        run()

    def lasting(self, printed: str) -> str:
        """Return what was printed as a page shows it: nothing in it is of this run alone."""
        printed = printed.replace(str(self._folder), "~")
        for pattern, shown in VOLATILE.items():
            printed = pattern.sub(shown, printed)
        return printed


def _replace_volatile(output: str) -> str:
    """Return what a terminal shows in the end: a bar of progress, which only a slow machine draws, is gone by then."""
    if "\x1b[" not in output:
        return output.replace("\r\n", "\n")
    screen = pyte.Screen(max(map(len, output.splitlines())), output.count("\n") + 2)
    pyte.Stream(screen).feed(output)
    text = "\n".join(line.rstrip() for line in screen.display).rstrip("\n")
    return f"{text}\n" if text else ""  # of a command that prints only a bar, nothing remains


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux: the other end is closed
            return
        if not piece:
            return
        yield piece


def render_page(text: str, terminal: Terminal) -> str:
    """Return the page with the real output of every command in it."""

    def block(match: re.Match[str]) -> str:
        if match["file"]:
            terminal.put(match["file"], match["text"])
            return match[0]
        if match["hidden"]:
            terminal.prepare(match["text"])
            return match[0]
        commands = [line for line in match["text"].splitlines() if line.startswith("$ ")]
        return (
            "```console\n"
            + "".join(f"{command}\n{terminal.lasting(terminal.run(command[2:]))}" for command in commands)
            + "```"
        )

    return BLOCK.sub(block, text)


def show(page: Path) -> None:
    """Print every command of a page before its output, with the prose between them."""
    with tempfile.TemporaryDirectory(dir=PARENT) as folder:
        text = page.read_text(encoding="utf-8")
        terminal = Terminal(Path(folder), text)
        end = 0
        for match in BLOCK.finditer(text):
            if match["file"]:
                terminal.put(match["file"], match["text"])
                continue  # it is shown with the prose
            print(text[end : match.start()].strip(), end="\n\n")
            end = match.end()
            if match["hidden"]:
                terminal.prepare(match["text"])
                continue
            for line in match["text"].splitlines():
                if line.startswith("$ "):
                    print(line, flush=True)
                    print(terminal.run(line[2:]), flush=True)
        print(text[end:].strip())


def main(words: list[str]) -> int:
    """Do what was asked with every page; 1 where a page shows what is not so."""
    action, *names = words
    stale = 0
    for page in map(Path, names):
        if action == "show":
            show(page)
            continue
        with tempfile.TemporaryDirectory(dir=PARENT) as folder:
            text = page.read_text(encoding="utf-8")
            page_text = render_page(text, Terminal(Path(folder), text))
        if page_text != text and action == "write":
            page.write_text(page_text, encoding="utf-8")
        elif page_text != text:
            print(f"{page}: outdated output; run make docs")
            stale += 1
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
