"""Screens of commands on a terminal, as text: ``python -m tests.render.screens`` writes those that the tests compare.

The commands run in this process at a fixed time, on a sample whose rows depend only on that time.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import sqlite3
import struct
import sys
import tempfile
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyte
from rich.color import ColorSystem
from rich.style import Style

from dbctl import model
from dbctl.cli.main import main
from dbctl.render.terminal.roles import STYLES
from tests.in_process import run_command

STORED = Path(__file__).with_name("stored")
WIDTHS = (60, 80, 120)
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
PREFIX = "dbctl-screens-"  #: of the folder of the sample
ENVIRONMENT = {
    # Hints name the program by its path where the PATH does not lead to it, and would be as wide as the path of the checkout.
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "HOME": "/nonexistent",
    "DBCTL_STATE": "off",
    "LANG": "C.UTF-8",
    "TERM": "xterm-256color",
    "TZ": "UTC",
    "PAGER": "cat",
}
#: The options of commands on a database without an app, which run in a folder of their own.
SHOP = "--url main=app.db --migrations migrations"
#: The commands, each with the line that the user types.
COMMANDS: Mapping[str, str] = {
    "status": "",
    "doctor": "",
    "integrity check": "",
    "integrity cross-check": "",
    "users list": "",
    "users list --limit 3 --wide": "",
    "users show morgan": "",
    "users delete demo --dry-run": "",
    "users delete demo": "no",
    "users show no-such-user": "",
    "roles list": "",
    "roles matrix": "",
    "settings list": "",
    "settings get app.siteName": "",
    "sessions list --limit 2": "",
    "sessions cleanup --dry-run": "",
    "search games wizard": "",
    "stats overview": "",
    "stats tables": "",
    "stats activity --limit 4": "",
    "data rows users --limit 3": "",
    "data rows activity_logs --limit 3 --columns id,user_id,username,details": "",
    "data show users 10": "",
    "data query \"select null as a, '' as b, 'NULL' as c, 1 as d\"": "",
    "migrate status": "",
    f"migrate plan {SHOP}": "",
    f"migrate lint {SHOP}": "",
    f"migrate up --dry-run {SHOP}": "",
    "backup list": "",
    "backup show latest": "",
    "backup status": "",
    "apps show --columns name,title,databases": "",
}
MIGRATIONS = {
    "001_items": """\
-- Articles of the shop.
CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'none', price REAL);
""",
    "002_prices": """\
-- Prices are in another system.
ALTER TABLE items DROP COLUMN price;
DELETE FROM items;
""",
}
#: Text that differs between runs or machines, and its replacement of the same length.
VOLATILE = ((re.compile(r"\d+\.\d (?=[KM]iB)"), "9"), (re.compile(r"\b[0-9a-f]{40,}"), "a"))


class Shown(NamedTuple):
    """What a command wrote to a terminal."""

    text: str
    colors: Counter[str]  #: number of pieces of text by role
    raw: str
    status: int


class _Clock(datetime):
    @classmethod
    def now(cls, _tz=None):
        return AT


@contextmanager
def stop_clock() -> Iterator[None]:
    """Fix the time of dbctl and the time zone."""
    saved, model.datetime = model.datetime, _Clock
    try:
        yield
    finally:
        model.datetime = saved


def create_sample(folder: Path, *words: str) -> dict[str, Any]:
    """Run ``demo`` for an app in a folder, which has to exist; return its result."""
    created = run_command(
        ["demo", words[0], ".", *words[1:], "-o", "json"], environment=ENVIRONMENT, cwd=folder
    )
    result: dict[str, Any] = json.loads(created.stdout)["data"]
    return result


def build(folder: Path) -> None:
    """Create the sample in a folder, with a backup and a folder of migrations."""
    with stop_clock():
        create_sample(folder, "flashpoint-web", "--games", "60", "--users", "10", "--plays", "40")
        (folder / "dbctl.toml").write_text(
            '[apps.arcade]\nprofile = "flashpoint-web"\n[apps.arcade.databases]\nuser = "backend/user.db"\n'
            'flashpoint = "Data/flashpoint.sqlite"\n[apps.arcade.backup]\nrepository = "backups"\n'
        )
        (folder / "shop/migrations").mkdir(parents=True)
        for name, sql in MIGRATIONS.items():
            (folder / f"shop/migrations/{name}.sql").write_text(sql)
        show(folder, "backup create --quiet", 80)


def show(folder: Path, command: str, width: int, typed: str = "", **environment: str) -> Shown:
    """Run a command at a terminal of ``width`` columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    pieces: list[bytes] = []
    reader = threading.Thread(target=lambda: pieces.extend(_read(ours)))
    reader.start()
    if typed:
        os.write(ours, typed.encode() + b"\n")
        # the kernel echoes it a little later, which could be between two lines of the command
        while b"\n" not in b"".join(pieces):
            time.sleep(0.001)
    streams = sys.stdin, sys.stdout, sys.stderr
    saved = dict(os.environ)
    os.environ.clear()
    os.environ.update(ENVIRONMENT | environment)
    time.tzset()
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(theirs), mode, encoding="utf-8") for mode in "rww")
    try:
        with chdir(folder / "shop" if SHOP in command else folder), stop_clock():
            status = main(shlex.split(command))
    finally:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            stream.close()
        sys.stdin, sys.stdout, sys.stderr = streams
        os.environ.clear()
        os.environ.update(saved)
        time.tzset()
        os.close(theirs)
        reader.join()
        os.close(ours)
    raw = hide_volatile(b"".join(pieces).decode(), folder)
    return Shown(_draw(raw, width), _count_roles(raw), raw, status)


def hide_volatile(text: str, folder: Path) -> str:
    """Replace what differs between runs and machines."""
    text = text.replace(str(folder), str(folder.with_name(PREFIX + "x" * (len(folder.name) - len(PREFIX)))))
    text = re.sub(r"/[^\s\x1b]+/bin/dbctl", "dbctl", text)  # where it is installed
    text = re.sub(r"\b\d+(\.\d)? m?s\b", "9 ms", text)  # only at the ends of lines
    for pattern, character in VOLATILE:
        digits = "[0-9a-f]" if character == "a" else r"\d"
        text = pattern.sub(lambda match, d=digits, c=character: re.sub(d, c, match[0]), text)
    return text


def _draw(raw: str, width: int) -> str:
    """Return what a terminal of this width shows, without blanks at the ends of lines."""
    screen = pyte.Screen(width, raw.count("\n") + len(raw) // width + 2)
    pyte.Stream(screen).feed(raw)
    return "\n".join(line.rstrip() for line in screen.display).rstrip("\n") + "\n"


def _count_roles(raw: str) -> Counter[str]:
    codes = {_code_of(style): role for role, style in STYLES.items()}
    return Counter(codes[code] for code in re.findall(r"\x1b\[([\d;]+)m", raw) if code != "0")


def _code_of(style: str) -> str:
    text = Style.parse(style).render("x", color_system=ColorSystem.STANDARD)
    return text.removeprefix("\x1b[").partition("m")[0]


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux: the other end is closed
            return
        if not piece:
            return
        yield piece


def path_of(command: str) -> Path:
    """Return the file with the screens of a command."""
    return STORED / (re.sub(r"\W+", "-", command.partition(" --url")[0]).strip("-") + ".txt")


def describe(folder: Path, command: str) -> str:
    """Return the screens of a command at each width, with the colors of each."""
    sections = []
    for width in WIDTHS:
        shown = show(folder, command, width, COMMANDS[command])
        roles = ", ".join(f"{role} {count}" for role, count in sorted(shown.colors.items())) or "none"
        sections.append(
            f"$ dbctl {command}\n{shown.text}[exit {shown.status}; {width} columns; colors: {roles}]\n"
        )
    return "\n".join(sections)


@contextmanager
def sample() -> Iterator[Path]:
    """Yield the sample in a folder whose path has always the same length."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")).resolve()
    try:
        build(folder)
        with closing(sqlite3.connect(folder / "backend/user.db")) as db, db:
            db.execute("update migrations set execution_time_ms = 7")
        yield folder
    finally:
        shutil.rmtree(folder)


def write() -> None:
    """Write the files."""
    STORED.mkdir(exist_ok=True)
    for path in STORED.iterdir():
        path.unlink()
    with sample() as folder:
        for command in COMMANDS:
            path_of(command).write_text(describe(folder, command), encoding="utf-8")


if __name__ == "__main__":
    write()
