"""``dbctl`` and ``python -m dbctl``: make the process sound, answer the quick questions, hand the rest to the command line."""

import gc
import os
import sys

from dbctl import __version__

#: Objects between two looks for garbage: most commands make fewer, and leave them all to the end of the process.
_GARBAGE = 50_000
_WIDTH = 80  # columns; narrower terminals get the help wrapped anew


def run() -> None:
    """Run dbctl and end the process with its status."""
    sound_streams()
    words = sys.argv[1:]
    if words == ["--version"]:  # before anything heavy is imported: scripts ask this often
        status = at_once(f"dbctl {__version__}\n")
    elif sys.platform == "win32":
        sys.stderr.write("dbctl: Windows is not supported; run it on Linux or macOS (WSL is Linux)\n")
        status = 2
    elif words in (["--help"], ["-h"]) and _columns() >= _WIDTH:
        status = at_once(_help())
    else:
        status = whole()
    try:  # noqa: SIM105 - contextlib is slow to import
        sys.stderr.flush()
    except OSError:
        pass
    # taking the interpreter apart would take as long as a query; every file and database is closed by now
    os._exit(status)


def at_once(text: str) -> int:
    """Print an answer that needs no command line; when that fails, the command line tells why."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        return whole()
    return 0


def _help() -> str:
    """Return the help as it was when the command tree was last written down; a test compares the two."""
    place = os.path.join(os.path.dirname(__file__), "cli", "_completion", "help.txt")  # noqa: PTH118, PTH120 - pathlib is slow to import
    with open(place, encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def whole() -> int:
    """Run the command line and return its status."""
    from dbctl import signals

    try:
        signals.listen()
        gc.disable()  # what is imported stays; looking through it for garbage is wasted
        from dbctl.cli.main import main

        gc.freeze()
        gc.set_threshold(_GARBAGE)
        gc.enable()
        return main()
    except signals.Interrupted as error:  # outside main: nothing had begun, or all was over
        return error.exit_status


def _columns() -> int:
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or _WIDTH
    except OSError:  # no terminal
        return _WIDTH


def sound_streams() -> None:
    """Open /dev/null on whichever of the descriptors 0, 1 and 2 the caller closed.

    Otherwise the next file that is opened becomes standard output, and answers are written into it.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - the three standard streams
        os.set_inheritable(lowest, True)  # noqa: FBT003 - its one argument
    os.close(lowest)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process


if __name__ == "__main__":
    run()
