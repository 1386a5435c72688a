"""Profiles found by name or path, and read with every mistake explained."""

from __future__ import annotations

import os
from binascii import crc32
from functools import cache
from pathlib import Path

import msgspec

from dbctl.errors import FileFailedError, FileMissingError, ProfileInvalidError, ProfileMissingError
from dbctl.files import toml
from dbctl.profiles.model import Profile

BUILTIN = Path(__file__).with_name("builtin")


def names() -> list[str]:
    """Return the names of the profiles that ship with dbctl."""
    return sorted(path.stem for path in BUILTIN.glob("*.toml"))


def path_of(name: str) -> Path:
    """Return the file of a built-in profile, or the path itself where ``name`` ends in ``.toml``.

    Raises:
        ProfileMissingError: no built-in profile has that name.
    """
    if name.endswith(".toml"):
        return Path(name)
    path = BUILTIN / f"{name}.toml"
    if path.parent != BUILTIN or not os.path.isfile(path):  # noqa: PTH113 - pathlib's raises over a name that no disk takes
        raise ProfileMissingError(name=name, names=", ".join(names()))
    return path


def load(name: str) -> Profile:
    """Return the profile of that name or path.

    Raises:
        ProfileInvalidError: the first mistake in the file, with its line and key.
    """
    path = path_of(name)
    prepared = _prepared(path) if path.parent == BUILTIN else None
    if prepared:
        return prepared
    try:
        return read(path)
    except toml.TomlError as error:
        first = error.mistakes[0]
        raise ProfileInvalidError(file=path, line=first.line, key=first.key, reason=first.reason) from error


class Prepared(msgspec.Struct, frozen=True):
    """A built-in profile in a form that loads without a reader of TOML: a fortieth of the time."""

    of: int  #: CRC-32 of the TOML file that it was made of
    profile: Profile


@cache
def _prepared(path: Path) -> Profile | None:
    """Return what ``profiles.generate`` made of a built-in profile; None where that is missing or out of date."""
    try:
        prepared = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Prepared)
        return prepared.profile if prepared.of == crc32(path.read_bytes()) else None
    except (OSError, msgspec.MsgspecError):
        return None


def read(path: Path) -> Profile:
    """Return the profile in a file; raises as ``read_with_text`` does."""
    return read_with_text(path)[0]


@cache
def read_with_text(path: Path) -> tuple[Profile, str]:
    """Return the profile in a file, and the file's text.

    Raises:
        TomlError: every mistake in it.
        FileMissingError, FileFailedError: there is none, or it cannot be read.
    """
    try:
        values, text = toml.load(path)
    except FileNotFoundError as error:
        raise FileMissingError(what="profile", path=path) from error
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    return toml.structure(values, Profile, text), text
