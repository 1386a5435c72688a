"""Runs the commands that pages show, on a terminal of 100 columns: prints them, writes their output, or checks it.

    python docs/console.py show|write|check PAGE…

A page is Markdown. Its blocks of language ``console`` hold commands after ``$ ``, each followed by what it prints. The
blocks of one page run in order, in a folder of their own that is empty at first; a status other than 0 is shown as
``[exit N]``. What another run would tell otherwise, its moments and its folder, stands in a page as in ``OF_THE_RUN``. A block whose language is followed by a name, such as ``toml shop.toml``, is a file of that name.
A page that speaks of ``postgres@localhost`` gets a PostgreSQL server of its own, as which that is known to its commands;
one that speaks of ``mysqld.sock`` a MariaDB server of its own, whose socket that is;
one that speaks of ``s3://example-backups`` gets storage with that bucket, and its commands the keys.
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
from collections.abc import Iterator
from pathlib import Path

import pyte

COLUMNS, LINES = 100, 50
#: What a page calls the server of its own; nothing is said of a port, so PGPORT counts.
SERVER = "postgres@localhost"
#: The same of the socket of a MariaDB server.
SOCKET = "mysqld.sock"
#: The same of storage.
BUCKET = "example-backups"
#: What stands in the output of one run only, and what a page shows for it.
OF_THE_RUN = {
    re.compile(r"(?<!\d)\d{8}_\d{6}(?!\d)"): "YYYYMMDD_HHMMSS",
    re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"): "YYYY-MM-DD HH:MM UTC",
    re.compile(r"\d+ s ago"): "just now",
    re.compile(r"\b\d+\.\d s\b"): "N.N s",
}
BLOCK = re.compile(r"^```(?:console|\w+ (?P<file>\S+))\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Terminal:
    """A folder in which commands are run one after the other, each on a terminal of its own."""

    def __init__(self, folder: Path, page: str) -> None:
        self._folder = self._here = folder.resolve()
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "TERM": "xterm-256color",
            "TZ": "UTC",
        }
        sys.path.insert(0, str(Path(__file__).parents[1]))
        if SERVER in page or SOCKET in page:
            from tests import servers

            if SERVER in page:
                self._environment["PGPORT"] = str(servers.listening_postgresql().port)
            if SOCKET in page:
                (folder / SOCKET).symlink_to(servers.private_mysql().options.partition("=")[2])
        if f"s3://{BUCKET}" in page:
            from tests import storage

            storage.asked(storage.port(), "PUT", f"/{BUCKET}")
            waiting = folder / ".waiting"
            waiting.mkdir()
            self._environment |= storage.variables() | {"TMPDIR": str(waiting)}

    def put(self, name: str, text: str) -> None:
        """Write a file, where the commands run."""
        (self._here / name).write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        """Return what ``command`` prints, each line without blanks at its end."""
        place = self._folder / ".place"
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        script = f"{command}\nstatus=$?\npwd > {shlex.quote(str(place))}\nexit $status"
        with subprocess.Popen(
            ["bash", "-c", script],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self._here,
            env=self._environment,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            printed = _left_standing(b"".join(_read(ours)).decode())
        os.close(ours)
        if place.exists():
            self._here = Path(place.read_text(encoding="utf-8").strip())
        lines = [line.rstrip() for line in printed.splitlines()]
        if process.returncode:
            lines.append(f"[exit {process.returncode}]")
        return "".join(f"{line}\n" for line in lines)

    def lasting(self, printed: str) -> str:
        """Return what was printed as a page shows it: nothing in it is of this run alone."""
        printed = printed.replace(str(self._folder), "~")
        for pattern, shown in OF_THE_RUN.items():
            printed = pattern.sub(shown, printed)
        return printed


def _left_standing(told: str) -> str:
    """Return what a terminal shows in the end: a bar of progress, which only a slow machine draws, is gone by then."""
    if "\x1b[" not in told:
        return told.replace("\r\n", "\n")
    screen = pyte.Screen(max(map(len, told.splitlines())), told.count("\n") + 2)
    pyte.Stream(screen).feed(told)
    return "\n".join(line.rstrip() for line in screen.display).rstrip("\n") + "\n"


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return
        if not piece:
            return
        yield piece


def rendered(text: str, terminal: Terminal) -> str:
    """Return the page with the real output of every command in it."""

    def block(found: re.Match[str]) -> str:
        if found["file"]:
            terminal.put(found["file"], found["text"])
            return found[0]
        commands = [line for line in found["text"].splitlines() if line.startswith("$ ")]
        return (
            "```console\n"
            + "".join(f"{one}\n{terminal.lasting(terminal.run(one[2:]))}" for one in commands)
            + "```"
        )

    return BLOCK.sub(block, text)


def show(page: Path) -> None:
    """Print every command of a page before its output, with the prose between them."""
    with tempfile.TemporaryDirectory() as folder:
        text = page.read_text(encoding="utf-8")
        terminal = Terminal(Path(folder), text)
        end = 0
        for found in BLOCK.finditer(text):
            if found["file"]:
                terminal.put(found["file"], found["text"])
                continue  # it is shown with the prose
            print(text[end : found.start()].strip(), end="\n\n")
            for line in found["text"].splitlines():
                if line.startswith("$ "):
                    print(line, flush=True)
                    print(terminal.run(line[2:]), flush=True)
            end = found.end()
        print(text[end:].strip())


def main(words: list[str]) -> int:
    """Do what was asked with every page; 1 where a page shows what is not so."""
    action, *names = words
    stale = 0
    for page in map(Path, names):
        if action == "show":
            show(page)
            continue
        with tempfile.TemporaryDirectory() as folder:
            text = page.read_text(encoding="utf-8")
            made = rendered(text, Terminal(Path(folder), text))
        if made != text and action == "write":
            page.write_text(made, encoding="utf-8")
        elif made != text:
            print(f"{page}: shows what is not so; make docs writes it anew")
            stale += 1
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
