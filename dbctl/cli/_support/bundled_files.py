"""Installation of bundled files, such as man pages, for the current user."""

from __future__ import annotations

from pathlib import Path

from dbctl.errors.connection import FileExistsAlreadyError, FileFailedError
from dbctl.files.atomic import write_atomically


def install_file(path: Path, text: str, mark: str) -> bool:
    """Write a file, and its missing folders; return False if it was already up to date.

    Raises:
        FileExistsAlreadyError: another file, without ``mark``, is in its place.
        FileFailedError: it cannot be written.
    """
    try:
        if path.exists():
            existing = path.read_text(encoding="utf-8", errors="replace")
            if existing == text:
                return False
            if mark not in existing:
                raise FileExistsAlreadyError(
                    path=path, hint="It was not created by dbctl; move it to another location first."
                )
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    with write_atomically(path, mode=0o644, replace=True) as file:
        file.write(text)
    return True
