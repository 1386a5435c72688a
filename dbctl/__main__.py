"""``dbctl`` and ``python -m dbctl``: prepare the process, print help and version directly, otherwise run the command line."""

import gc
import os
import sys

from dbctl import __version__

#: Objects between two garbage collections: most commands create fewer, and the end of the process releases them.
_GC_THRESHOLD = 50_000
_WIDTH = 80  # columns; on narrower terminals the help is wrapped again


def run() -> None:
    """Run dbctl and end the process with its status."""
    prepare_streams()
    arguments = sys.argv[1:]
    if arguments[:1] == ["__complete"]:  # the completion files of shells run it after each Tab
        status = complete(arguments[1:])
    elif arguments == ["--version"]:  # scripts often run this, so nothing is imported
        status = print_or_run(f"dbctl {__version__}\n")
    elif sys.platform == "win32":
        sys.stderr.write("dbctl: Windows is not supported; run it on Linux or macOS (WSL is Linux)\n")
        status = 2
    elif arguments in (["--help"], ["-h"]) and not needs_layout():
        status = print_or_run(_read_help())
    else:
        status = run_command_line()
    try:  # noqa: SIM105 - contextlib is slow to import
        sys.stderr.flush()
    except OSError:
        pass
    # Finalizing the interpreter takes as long as a query; every file and database is already closed.
    os._exit(status)


def complete(arguments: list[str]) -> int:
    """Print values for the completion of a command line; no error has an effect on the shell."""
    from dbctl import startup
    from dbctl.cli._completion import complete

    gc.disable()
    startup.defer_imports(of_typer=False)

    complete(arguments)
    return 0


def print_or_run(text: str) -> int:
    """Print text without the command line; if that fails, run the command line, which reports the error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        return run_command_line()
    return 0


def _read_help() -> str:
    """Return the generated help of the command tree; a test compares the two."""
    path = os.path.join(os.path.dirname(__file__), "cli", "help.txt")  # noqa: PTH118, PTH120 - pathlib is slow to import
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def run_command_line() -> int:
    from dbctl import signals, startup

    try:
        signals.install_handlers()
        gc.disable()  # imported modules remain in memory; scanning them for garbage is wasted
        with signals.defer_signals():  # msgspec drops an exception during its import, and crashes later
            startup.defer_imports()
            from dbctl.cli.main import main
        signals.raise_if_interrupted()

        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        gc.enable()
        return main()
    except signals.Interrupted as error:  # outside of main: nothing has begun, or everything has ended
        return error.exit_status


def needs_layout() -> bool:
    """Whether the help is wrapped for a width, has colors, or names other commands than those of a whole dbctl."""
    from dbctl.extensions.installed import has_third_parties, is_complete

    columns = os.environ.get("COLUMNS", "")
    is_narrow = columns.isdigit() and 0 < int(columns) < _WIDTH
    return (
        is_narrow
        or "CLICOLOR_FORCE" in os.environ
        or os.isatty(1)
        or has_third_parties()
        or not is_complete()
    )


def prepare_streams() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that the caller has closed, and let the others wait for data and readers.

    Otherwise the next opened file would become standard output, and results would be written into it. A parent, or another
    program on the terminal, can have made a stream non-blocking: Python then takes a pause of the input for its end, and drops output
    for which a pipe has no space, both without an error.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - the three standard streams
        os.set_inheritable(lowest, True)  # noqa: FBT003 - its one argument
    os.close(lowest)
    for descriptor in range(3):
        os.set_blocking(descriptor, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process


if __name__ == "__main__":
    run()
