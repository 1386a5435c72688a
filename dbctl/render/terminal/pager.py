"""Show output that is longer than the screen in the user's pager, as git and psql do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from dbctl.render import streams

#: The behavior of less: quit if the text fits on one screen, show colors, leave the text on the screen.
_LESS = "FRX"
#: Exit codes of a shell for a program that is missing or cannot run.
_NOT_RUN = (126, 127)


def show_in_pager(text: str) -> None:
    """Write ``text`` to the pager and wait until the user closes it; without a pager, write it to standard output.

    Closing the pager early is no error: the user has seen enough.

    Raises:
        OutputFailedError: standard output cannot be written.
    """
    command = os.environ.get("DBCTL_PAGER", os.environ.get("PAGER", "less")).strip()
    if (
        command in {"", "cat"}
        or _run(command, text.encode(sys.stdout.encoding, "backslashreplace")) in _NOT_RUN
    ):
        streams.write(text)


def _run(command: str, data: bytes) -> int:
    """Return the exit code of the pager."""
    streams.flush()
    # The variable is a command line of the user's shell, by convention: `less -S | tee log`. Nothing else is in it.
    process = subprocess.Popen(  # noqa: S602
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=sys.stdout,
        env={"LESS": _LESS, "LV": "-c", **os.environ},
    )
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the pager
    try:
        process.communicate(data)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, handler)
    return process.returncode
