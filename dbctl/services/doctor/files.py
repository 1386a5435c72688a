"""Who besides its owner gets to a file, by the modes of the file and of every directory above it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl.config import Selection, loader
from dbctl.engines.contract import Housing
from dbctl.errors import DatabaseMissingError, FileFailedError, UnreachableError
from dbctl.model import Finding, Severity
from dbctl.services.doctor.context import MOVE, Subject, line_of

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


#: Severity, code, message and hint of a finding whose target is not said yet.
Told: TypeAlias = tuple[Severity, str, str, str]
Found: TypeAlias = Mapping[Path, os.stat_result]

AUDIENCES: tuple[Audience, ...] = ("all", "group")


def configurations(said: Sequence[Selection]) -> list[Path]:
    """Return the files of the configurations that are used."""
    used = [one for one in said if not (one.profile and one.urls)]
    return list(dict.fromkeys(Path(os.path.realpath(loader.path(one))) for one in used))


def configuration(file: Path) -> Iterator[Finding]:
    """Yield who else gets to a configuration file.

    Raises:
        FileFailedError: it may not be looked at.
    """
    urls = [url for app in loader.read(file).apps.values() for url in app.databases.values()]
    try:
        found, text = {file: file.stat()}, file.read_text(encoding="utf-8", errors="surrogateescape")
        secret = any(url.password and url.password.reveal() in text for url in urls)
        written = "it says which files dbctl works on"
        read = "it holds a password" if secret else "it may come to hold a password"
        told = list(exposed(found, written=written, read=read, severity="warning" if secret else "info"))
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    for severity, code, message, hint in told:
        yield Finding(target=str(file), severity=severity, code=code, message=message, hint=hint)


def files(subject: Subject, housing: Housing) -> Iterator[Finding]:
    """Yield what is wrong with modes, owners and names of a database's files.

    Raises:
        DatabaseMissingError: it is not there.
        UnreachableError: it may not be looked at.
    """
    try:
        found = {housing.file: housing.file.stat()}
        for one in housing.beside:
            with suppress(FileNotFoundError):  # who used the database has just ended
                found[one] = one.stat()
        told = list(_files(subject, found))
    except FileNotFoundError:
        configured = Path(subject.app.url(subject.database).path)
        linked = f" (the link {configured} leads there)" if configured.is_symlink() else ""
        raise DatabaseMissingError(target=subject.target, path=f"{housing.file}{linked}") from None
    except OSError as error:
        instead = f"Check owner and mode of {housing.file.parent}."
        raise UnreachableError(
            target=subject.target, reason=error.strerror or str(error), instead=instead
        ) from error
    for severity, code, message, hint in told:
        yield subject.finding(severity, code, message, hint)


def _files(subject: Subject, found: Found) -> Iterator[Told]:
    folder = next(iter(found)).parent
    yield from exposed(found, written="whoever does, changes it past the app", read=subject.holds)
    yield from _exposed_folder(folder)
    if subject.written:
        yield from _owners(found, folder)
        yield from _links(found)


def exposed(found: Found, *, written: str, read: str, severity: Severity = "warning") -> Iterator[Told]:
    """Yield who else may write files that belong together, or read them.

    Args:
        found: the files; the first one's group stands for all.
        written: what it means that they can be written.
        read: what it means that they can be read; empty: nothing.
        severity: that of everybody's reading.
    """
    for audience in AUDIENCES:
        everybody = audience == "all"
        rights: tuple[tuple[int, str, str, Severity], ...] = (
            (WRITE, "writable", written, "error" if everybody else "warning"),
            (READ, "readable", read, severity if everybody else "info"),
        )
        for right, word, meaning, grave in rights:
            open_to = [path for path, one in found.items() if meaning and reach(path, one, audience) & right]
            if open_to:
                who = _who(audience, found[open_to[0]])
                names, verb = ", ".join(map(str, open_to)), "written" if right == WRITE else "read"
                change = f"{'o' if everybody else 'g'}-{'w' if right == WRITE else 'r'}"
                yield (
                    grave,
                    f"{word}-by-{audience}",
                    f"{names} may be {verb} by {who}: {meaning}",
                    _line(found[open_to[0]], "chmod", change, *open_to),
                )


def _exposed_folder(folder: Path) -> Iterator[Told]:
    found = folder.stat()
    for audience in AUDIENCES:
        if reach(folder, found, audience) & WRITE:
            everybody = audience == "all"
            message = f"{folder} may be written by {_who(audience, found)}: whoever does, can put another database in place"
            # A directory like /tmp has to stay as it is; but who makes a file there can plant a journal.
            if found.st_mode & stat.S_ISVTX:
                yield "warning", f"folder-writable-by-{audience}", message, MOVE
            else:
                line = _line(found, "chmod", f"{'o' if everybody else 'g'}-w", folder)
                yield "error" if everybody else "warning", f"folder-writable-by-{audience}", message, line


def _owners(found: Found, folder: Path) -> Iterator[Told]:
    """Yield what keeps whom the files belong to from writing them, as a careless sudo does."""
    (file, own), *beside = found.items()
    there = folder.stat()
    owner, host = user_name(own.st_uid), user_name(there.st_uid)
    if not own.st_mode & stat.S_IWUSR:
        message = f"{file} may not be written by its own owner ({owner})"
        yield "error", "not-writable", message, _line(own, "chmod", "u+w", file)
    foreign = [path for path, one in beside if own.st_uid != one.st_uid and not may_write(own.st_uid, one)]
    if foreign:
        theirs = user_name(found[foreign[0]].st_uid)
        message = (
            f"{', '.join(map(str, foreign))} belong{'s' if len(foreign) == 1 else ''} to {theirs}, the database to {owner}:"
            f" an app that runs as {owner} gets 'attempt to write a readonly database'"
        )
        yield "error", "other-owner", message, _given_to(own, *foreign)
    if 0 != there.st_uid != own.st_uid and not may_write(there.st_uid, own):
        message = (
            f"{file} belongs to {owner}, its directory to {host}:"
            f" an app that runs as {host} gets 'attempt to write a readonly database'"
        )
        yield "warning", "other-owner", message, _given_to(there, *found)
    if not may_write(own.st_uid, there):
        message = (
            f"{folder} may not be written by {owner}, who owns the database: an app that runs as {owner}"
            " cannot make the files that it needs beside it"
        )
        if there.st_uid == own.st_uid:
            yield "error", "folder-not-writable", message, _line(there, "chmod", "u+wx", folder)
        else:
            yield "warning", "folder-not-writable", message, _given_to(own, folder)


def _links(found: Found) -> Iterator[Told]:
    file, own = next(iter(found.items()))
    if own.st_nlink > 1:
        message = (
            f"{file} has {own.st_nlink} names (hard links): who opens it by another one does not see what stands"
            " beside this one. With the app stopped, this name can get a file of its own"
        )
        alone = file.with_name(f"{file.name}.dbctl-alone")
        line = f"{_line(own, 'cp', '-p', file, alone)} && {_line(own, 'mv', alone, file)}"
        yield "error", "hard-link", message, line


def _who(audience: Audience, found: os.stat_result) -> str:
    return "everybody on this machine" if audience == "all" else f"group {group_name(found.st_gid)}"


def _line(found: os.stat_result, *words: str | Path) -> str:
    return line_of(found.st_uid, list(map(str, words)))


def _given_to(like: os.stat_result, *paths: Path) -> str:
    owner = f"{user_name(like.st_uid)}:{group_name(like.st_gid)}"
    return line_of(0, ["chown", owner, *map(str, paths)])
