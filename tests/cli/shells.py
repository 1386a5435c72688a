"""Interactive shells in a pseudo terminal: type a line, press Tab, and read the line that the shell shows then."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect

from dbctl.cli.completions import FILES
from dbctl.config.environment import bundled_folder
from tests import servers

FOLDER = bundled_folder("completions")
TRIES = 3
BIN = Path(sys.executable).parent
#: Writes the line to a file when Ctrl-X is pressed, and prints a word when the shell is ready.
SETUP = {
    "bash": """
        PS1='> '; HISTFILE=; bind 'set enable-bracketed-paste off'; bind 'set keyseq-timeout 1'; bind 'set page-completions off'
        bind 'set completion-query-items 0'; source {file}
        save() {{ printf '%s' "$READLINE_LINE" > {target}.new; mv {target}.new {target}; READLINE_LINE= READLINE_POINT=0; }}
        bind -r '\\C-x'; bind -x '"\\C-x": save'; echo rea""dy
    """,
    "zsh": """
        unsetopt zle_bracketed_paste beep; PS1='> '; LISTMAX=-1; KEYTIMEOUT=1; fpath=({folder} $fpath)
        autoload -U compinit; compinit -u -D
        save() {{ print -rn -- "$BUFFER" > {target}.new; mv {target}.new {target}; BUFFER=; }}
        zle -N save; bindkey -r '^X'; bindkey '^X' save; echo rea""dy
    """,
    "fish": """
        function fish_prompt; echo '> '; end; function fish_greeting; end; set -g fish_autosuggestion_enabled 0
        source {file}
        bind \\cx 'commandline > {target}.new; mv {target}.new {target}; commandline ""'; echo rea""dy
    """,
}
WORDS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}


class Shell:
    """One interactive shell in a folder; ``output`` is what it wrote to the terminal after the last keys."""

    def __init__(self, name: str, child: pexpect.spawn[str], target: Path) -> None:
        self.name, self.output = name, ""
        self._child, self._target = child, target

    def complete(self, line: str, *, tabs: int = 1) -> str:
        """Type a line, press Tab, and return the line that the shell shows; it is not run.

        A busy machine may not find names in time, so an unchanged line is typed up to ``TRIES`` times.
        """
        tries = (self._complete_once(line, tabs) for _ in range(TRIES))
        return next((completed for completed in tries if completed != line), line)

    def _complete_once(self, line: str, tabs: int) -> str:
        self._child.send(line + "\t" * tabs + "\x18")
        while not self._target.exists():
            try:
                self.output += self._child.read_nonblocking(65536, timeout=0.02)
            except pexpect.TIMEOUT:
                continue
        completed = self._target.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n")
        self._target.unlink()
        return completed

    def parse(self, line: str) -> list[str]:
        """Return the words of a line as the shell reads them, without the first."""
        script = f"printf '%s\\0' {line.partition(' ')[2]}"
        process = subprocess.run(
            [self.name, *WORDS[self.name][:1], "-c", script], capture_output=True, check=True
        )
        return process.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


@contextmanager
def open_shell(name: str, folder: Path, **variables: str) -> Iterator[Shell]:
    """Start a shell whose working directory is ``folder``, with the completion of dbctl."""
    if shutil.which(name) is None:
        servers.skip_or_fail(f"{name} is not installed")
    target = folder / ".line"
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        **variables,
    }
    child: pexpect.spawn[str] = pexpect.spawn(
        name,
        WORDS[name],
        cwd=str(folder),
        env=environment,
        encoding="utf-8",
        codec_errors="surrogateescape",
        timeout=30,
        dimensions=(50, 200),
    )
    file = FOLDER / FILES[name]  # type: ignore[index] # the names are those of ``Shell``
    setup = SETUP[name].format(
        file=shlex.quote(str(file)), folder=shlex.quote(str(FOLDER)), target=shlex.quote(str(target))
    )
    script = folder / ".setup"
    script.write_text(setup)
    child.sendline(f"source {shlex.quote(str(script))}")
    child.expect("ready")
    try:
        yield Shell(name, child, target)
    finally:
        child.close(force=True)
