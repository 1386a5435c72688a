"""Whether only root and the owner may change a file that lets dbctl run programs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import ConfigUntrustedError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def require_trusted(file: Path) -> None:
    """Refuse a file that another user than root may write or replace.

    Raises:
        ConfigUntrustedError: the file or one of its folders belongs to another user, or others may write it.
        FileFailedError: a folder cannot be read.
    """
    path = Path(os.path.realpath(file))
    try:
        for place in (path, *path.parents):
            status = place.stat()
            # Only the owner of a file may replace it in a sticky folder such as /tmp.
            writers = 0 if status.st_mode & stat.S_ISVTX and place != path else status.st_mode & _OTHERS_WRITE
            if status.st_gid == 0:
                writers &= ~stat.S_IWGRP
            if writers or status.st_uid != 0:
                raise ConfigUntrustedError(file=file, place=place)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
