"""Checks of the permissions of files, by the modes of the file and of its parent directories."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl.config import loader
from dbctl.config.defaults import NAME as DEFAULTS
from dbctl.config.defaults import SourceFile
from dbctl.config.environment import secret_file
from dbctl.config.sections import Sections, Selection, read_sections, report_first_problem
from dbctl.errors.connection import DatabaseMissingError, FileFailedError, UnreachableError
from dbctl.extensions import registry
from dbctl.model import Finding, Severity
from dbctl.profiles.loader import find_profile
from dbctl.services.app import command_line
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.services.checks.base import FileSubject

Audience: TypeAlias = Literal["all", "group"]

READ, WRITE = 4, 2
#: The only hint that is not a command, because the admin must choose the new location.
MOVE_HINT = "Stop the app, move the database to its own directory on a local disk, and change the path in the app and in dbctl.toml."


def find_access(path: Path, file_stat: os.stat_result, audience: Audience) -> int:
    """Return the flags ``READ`` and ``WRITE`` that all users, or the group, have for a file or directory with a resolved path.

    They have none if they may not enter a parent directory. The private group of the owner is ignored.

    Raises:
        OSError: a parent directory cannot be read.
    """
    is_group = audience == "group"
    if is_group and _is_private_group(file_stat):
        return 0
    for folder in path.parents:
        folder_stat = folder.stat()
        enter = stat.S_IXGRP if is_group and folder_stat.st_gid == file_stat.st_gid else stat.S_IXOTH
        if not folder_stat.st_mode & enter:
            return 0
    return file_stat.st_mode >> (3 if is_group else 0) & (READ | WRITE)


def can_write(uid: int, file_stat: os.stat_result) -> bool:
    """Whether the mode of a file or directory allows a user to write it."""
    if uid == 0:
        return True
    if uid == file_stat.st_uid:
        return bool(file_stat.st_mode & stat.S_IWUSR)
    return bool(file_stat.st_mode & (stat.S_IWGRP if file_stat.st_gid in _list_groups(uid) else stat.S_IWOTH))


def find_user_name(uid: int) -> str:
    """Return the name of a user, or the number as text if no user has it, as in containers."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_group_name(gid: int) -> str:
    """Return the name of a group, or the number as text if no group has it."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _is_private_group(file_stat: os.stat_result) -> bool:
    """Whether the group of a file is root's or the private group of the owner."""
    if file_stat.st_gid == 0:
        return True
    owner, name = find_user_name(file_stat.st_uid), find_group_name(file_stat.st_gid)
    if owner != name:
        return False
    with suppress(KeyError):
        return set(grp.getgrgid(file_stat.st_gid).gr_mem) <= {owner}
    return True


def _list_groups(uid: int) -> set[int]:
    try:
        entry = pwd.getpwuid(uid)
        return set(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except KeyError:  # a user without a name has no groups
        return set()


#: Severity, code, message and hint of a finding.
FindingParts: TypeAlias = tuple[Severity, str, str, str]
FileStats: TypeAlias = Mapping[Path, os.stat_result]

AUDIENCES: tuple[Audience, ...] = ("all", "group")


def list_configurations(selections: Sequence[Selection]) -> list[Path]:
    used = [selection for selection in selections if not (selection.profile and selection.urls)]
    return list(dict.fromkeys(Path(os.path.realpath(loader.config_path(selection))) for selection in used))


ABSENT_HINT = "Install all of dbctl, or remove it."


@check("extension-absent", "app", Needs.NOTHING)
def check_profile_sections(subject: Subject) -> Iterator[Finding]:
    """Yield the sections of the profile that nothing reads; built-in profiles describe all that an app has."""
    app = subject.app
    sections = () if find_profile(app.configured.profile) else app.profile.list_absent_sections()
    for name in require(sections):
        message = f"the section {name} of the profile has no effect, because its extension is not installed"
        yield subject.finding("warning", "extension-absent", message, ABSENT_HINT)


@check("readable-by-all", "file", Needs.NOTHING)
def check_configuration(subject: FileSubject) -> Iterator[Finding]:
    """Yield problems of the permissions of a configuration file.

    Raises:
        FileFailedError: the file cannot be read.
    """
    file = subject.path
    urls = [url for app in loader.read(file).apps.values() for url in app.databases.values()]
    passwords = [url.password.reveal() for url in urls if url.password]
    with report_first_problem(file):
        sections = read_sections(file)
    for name in _list_absent_sections(sections):
        message = f"the section {name} has no effect, because its extension is not installed"
        yield Finding(str(file), "warning", "extension-absent", message, ABSENT_HINT)
    for source in sections.files:
        yield from _check_source(source, passwords)
    for secret in sections.secrets.values():
        path = secret_file(secret, sections.folder)
        with suppress(OSError):  # reported by commands that read it
            if secret.file:
                stats = {path: path.stat()}
                yield from check_access(
                    str(file), stats, "this allows replacing a secret", "it contains a secret"
                )


def _list_absent_sections(sections: Sections) -> Iterator[str]:
    """Yield the configured sections that nothing reads: who waits for a message or a job would wait in vain."""
    shared = [source.values for source in sections.files]
    apps = [app for values in shared for app in values.get("apps", {}).values()]
    apps += [values[DEFAULTS] for values in shared if DEFAULTS in values]
    listed = [
        (registry.list_sections("config_sections", ()), shared),
        (registry.list_sections("app_sections", ()), apps),
    ]
    yield from dict.fromkeys(
        name
        for entries, tables in listed
        for name, entry in entries.items()
        if entry is None and any(name in table for table in tables)
    )


def _check_source(source: SourceFile, passwords: Sequence[str]) -> Iterator[Finding]:
    file = source.path
    try:
        file_stats = {file: file.stat()}
        has_password = any(password in source.text for password in passwords)
        write_risk = "it determines the files that dbctl changes"
        read_risk = "it contains a password" if has_password else "it may contain a password later"
        severity: Severity = "warning" if has_password else "info"
        findings = list(check_access(str(file), file_stats, write_risk, read_risk, severity=severity))
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    yield from findings


@check("writable-by-all", needs=Needs.FILES, is_gate=True)
def check_files(subject: Subject) -> Sequence[Finding]:
    """Return problems of modes, owners and hard links of a database's files.

    Raises:
        DatabaseMissingError: the file does not exist.
        UnreachableError: the file cannot be read.
    """
    database_files = require(subject.files)
    try:
        file_stats = {database_files.file: database_files.file.stat()}
        for path in database_files.side_files:
            with suppress(FileNotFoundError):  # deleted when the last process closed the database
                file_stats[path] = path.stat()
        return list(_check_files(subject, file_stats))
    except FileNotFoundError:
        configured = Path(subject.app.url(subject.database).path)
        link_note = f" (target of the link {configured})" if configured.is_symlink() else ""
        raise DatabaseMissingError(target=subject.target, path=f"{database_files.file}{link_note}") from None
    except OSError as error:
        raise create_unreachable(subject, database_files.file, error) from error


def create_unreachable(subject: Subject, file: Path, error: OSError) -> UnreachableError:
    """Return the error for the file of a database that the user may not read."""
    hint = f"Check owner and mode of {file.parent}."
    return UnreachableError(target=subject.target, reason=error.strerror or str(error), hint=hint)


def _describe_read_risk(subject: Subject) -> str:
    """Return the confidential content of the database; empty if none is known."""
    users = subject.app.profile.users
    if users is None or not subject.has_users:
        return "it contains keys or passwords" if subject.section.secret else ""
    return "it contains password hashes" if users.password else "it contains the users of the app"


def _check_files(subject: Subject, file_stats: FileStats) -> Iterator[Finding]:
    folder = next(iter(file_stats)).parent
    write_risk = "this allows changes of data without the app"
    yield from check_access(subject.target, file_stats, write_risk, _describe_read_risk(subject))
    parts = _check_folder(folder)
    if subject.is_writable:
        parts = chain(parts, _check_owners(file_stats, folder), _check_hard_links(file_stats))
    for severity, code, message, hint in parts:
        yield subject.finding(severity, code, message, hint)


def check_access(
    target: str, file_stats: FileStats, write_risk: str, read_risk: str, *, severity: Severity = "warning"
) -> Iterator[Finding]:
    """Yield files that other users may write or read.

    Args:
        target: of the findings.
        file_stats: the files; messages name the group of the first.
        write_risk: consequence of write access.
        read_risk: consequence of read access; empty: none.
        severity: of read access for all users.
    """
    for audience in AUDIENCES:
        is_public = audience == "all"
        rights: tuple[tuple[int, str, str, Severity], ...] = (
            (WRITE, "writable", write_risk, "error" if is_public else "warning"),
            (READ, "readable", read_risk, severity if is_public else "info"),
        )
        for right, adjective, risk, entry_severity in rights:
            paths = [
                path
                for path, file_stat in file_stats.items()
                if risk and find_access(path, file_stat, audience) & right
            ]
            if paths:
                audience_name = _describe_audience(audience, file_stats[paths[0]])
                names, verb = ", ".join(map(str, paths)), "write" if right == WRITE else "read"
                mode = f"{'o' if is_public else 'g'}-{'w' if right == WRITE else 'r'}"
                yield Finding(
                    target,
                    entry_severity,
                    f"{adjective}-by-{audience}",
                    f"{audience_name} may {verb} {names}: {risk}",
                    _owner_command(file_stats[paths[0]], "chmod", mode, *paths),
                )


def _check_folder(folder: Path) -> Iterator[FindingParts]:
    folder_stat = folder.stat()
    for audience in AUDIENCES:
        if find_access(folder, folder_stat, audience) & WRITE:
            is_public = audience == "all"
            message = f"{_describe_audience(audience, folder_stat)} may write {folder}: this allows replacing the database"
            # The mode of a sticky directory such as /tmp must not change, but other users can create a hostile journal in it.
            if folder_stat.st_mode & stat.S_ISVTX:
                yield "warning", f"folder-writable-by-{audience}", message, MOVE_HINT
            else:
                line = _owner_command(folder_stat, "chmod", f"{'o' if is_public else 'g'}-w", folder)
                yield "error" if is_public else "warning", f"folder-writable-by-{audience}", message, line


def _check_owners(file_stats: FileStats, folder: Path) -> Iterator[FindingParts]:
    """Yield owners and modes that prevent the owner of the files from writing them, for example after sudo."""
    (file, file_stat), *siblings = file_stats.items()
    folder_stat = folder.stat()
    owner, folder_owner = find_user_name(file_stat.st_uid), find_user_name(folder_stat.st_uid)
    if not file_stat.st_mode & stat.S_IWUSR:
        message = f"{file} is not writable for its owner ({owner})"
        yield "error", "not-writable", message, _owner_command(file_stat, "chmod", "u+w", file)
    foreign_files = [
        path
        for path, sibling_stat in siblings
        if file_stat.st_uid != sibling_stat.st_uid and not can_write(file_stat.st_uid, sibling_stat)
    ]
    if foreign_files:
        other_owner = find_user_name(file_stats[foreign_files[0]].st_uid)
        message = (
            f"{', '.join(map(str, foreign_files))} belong{'s' if len(foreign_files) == 1 else ''} to {other_owner}, the database to {owner}:"
            f" an app that runs as {owner} gets 'attempt to write a readonly database'"
        )
        yield "error", "other-owner", message, _chown_command(file_stat, *foreign_files)
    if 0 != folder_stat.st_uid != file_stat.st_uid and not can_write(folder_stat.st_uid, file_stat):
        message = (
            f"{file} belongs to {owner}, its directory to {folder_owner}:"
            f" an app that runs as {folder_owner} gets 'attempt to write a readonly database'"
        )
        yield "warning", "other-owner", message, _chown_command(folder_stat, *file_stats)
    if not can_write(file_stat.st_uid, folder_stat):
        message = (
            f"{folder} is not writable for {owner}, the owner of the database: an app that runs as {owner}"
            " cannot create the files that it needs next to the database"
        )
        if folder_stat.st_uid == file_stat.st_uid:
            yield (
                "error",
                "folder-not-writable",
                message,
                _owner_command(folder_stat, "chmod", "u+wx", folder),
            )
        else:
            yield "warning", "folder-not-writable", message, _chown_command(file_stat, folder)


def _check_hard_links(file_stats: FileStats) -> Iterator[FindingParts]:
    file, file_stat = next(iter(file_stats.items()))
    if file_stat.st_nlink > 1:
        message = (
            f"{file} has {file_stat.st_nlink} names (hard links): a process that opens it by another name does not use the"
            " -wal of this one. With the app stopped, replace it with a copy"
        )
        copy = file.with_name(f"{file.name}.dbctl-alone")
        line = f"{_owner_command(file_stat, 'cp', '-p', file, copy)} && {_owner_command(file_stat, 'mv', copy, file)}"
        yield "error", "hard-link", message, line


def _describe_audience(audience: Audience, file_stat: os.stat_result) -> str:
    return "all users of this machine" if audience == "all" else f"group {find_group_name(file_stat.st_gid)}"


def _owner_command(file_stat: os.stat_result, *arguments: str | Path) -> str:
    return command_line.command_for_owner(file_stat.st_uid, list(map(str, arguments)))


def _chown_command(file_stat: os.stat_result, *paths: Path) -> str:
    owner = f"{find_user_name(file_stat.st_uid)}:{find_group_name(file_stat.st_gid)}"
    return command_line.command_for_owner(0, ["chown", owner, *map(str, paths)])
