"""Who besides its owner gets to a file, by the modes of the file and of every directory above it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

Audience: TypeAlias = Literal["all", "group"]

READ, WRITE = 4, 2


def reach(path: Path, found: os.stat_result, audience: Audience) -> int:
    """Return which of ``READ`` and ``WRITE`` everybody has on a file or directory, or the group that it belongs to.

    A directory above that they may not enter keeps them from it. A group of its owner alone has nothing.

    Args:
        path: where it is, links followed.
        found: what was found there.
        audience: everybody, or its group.

    Raises:
        OSError: a directory above may not be looked at.
    """
    group = audience == "group"
    if group and _private(found):
        return 0
    for folder in path.parents:
        above = folder.stat()
        enter = stat.S_IXGRP if group and above.st_gid == found.st_gid else stat.S_IXOTH
        if not above.st_mode & enter:
            return 0
    return found.st_mode >> (3 if group else 0) & (READ | WRITE)


def may_write(user: int, found: os.stat_result) -> bool:
    """Whether the mode of a file or directory lets a user write it."""
    if user == 0:
        return True
    if user == found.st_uid:
        return bool(found.st_mode & stat.S_IWUSR)
    return bool(found.st_mode & (stat.S_IWGRP if found.st_gid in _groups(user) else stat.S_IWOTH))


def user_name(number: int) -> str:
    """Return the name of a user; the number where nobody has it, as often in containers."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """Return the name of a group; the number where there is none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _private(found: os.stat_result) -> bool:
    """Whether the group of a file is that of its owner alone, as most systems make one for each user, or root's."""
    if found.st_gid == 0:
        return True
    owner, name = user_name(found.st_uid), group_name(found.st_gid)
    if owner != name:
        return False
    with suppress(KeyError):
        return set(grp.getgrgid(found.st_gid).gr_mem) <= {owner}
    return True


def _groups(user: int) -> set[int]:
    try:
        told = pwd.getpwuid(user)
        return set(os.getgrouplist(told.pw_name, told.pw_gid))
    except KeyError:  # a user without a name is in no group that the system knows of
        return set()
