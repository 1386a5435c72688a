"""Load profiles by name or path, and report errors with line and key; the ledgers of migrations that dbctl supports by name."""

from __future__ import annotations

import os
from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from dbctl.errors.connection import report_file_errors
from dbctl.errors.usage import ProfileInvalidError, ProfileMissingError
from dbctl.files import toml
from dbctl.model import join_first
from dbctl.profiles.model.base import Section
from dbctl.profiles.model.core import CoreProfile
from dbctl.profiles.model.databases import ForeignLedger, Ledger

if TYPE_CHECKING:
    from dbctl.profiles.model.profile import Profile

T = TypeVar("T", bound=msgspec.Struct)

#: Profiles that a message names.
MAX_LISTED = 5
BUILTIN = Path(__file__).with_name("builtin")


class AvailableProfile(msgspec.Struct, frozen=True):
    """A profile that commands find by its name."""

    name: str
    origin: str  #: ``built-in``, the configuration directory: ``user`` or ``system``, or ``extension``
    path: Path


def names() -> list[str]:
    """Return the names of the profiles that ship with dbctl."""
    return sorted(path.stem for path in BUILTIN.glob("*.toml"))


def list_available() -> list[AvailableProfile]:
    """Return every profile that has a name: the built-in ones, then those of the user, of the system, and of other distributions."""
    return [
        AvailableProfile(path.stem, origin, path)
        for origin, folder in _list_folders()
        if os.path.isdir(folder)  # that of another user may be inaccessible
        for path in sorted(folder.glob("*.toml"))
    ]


def _list_folders() -> Iterator[tuple[str, Path]]:
    """Yield the folders with profiles, with their origin."""
    yield "built-in", BUILTIN
    from dbctl.config.environment import profile_folders
    from dbctl.extensions import registry

    yield from profile_folders().items()
    for folder in registry.list_profile_folders():
        yield "extension", Path(folder)


def list_profiles_with(feature: str) -> str:
    """Return the names of built-in profiles that have a feature, as a list in a message; empty: none has it."""
    names_ = [
        profile.name
        for profile in map(load, names())
        if feature in [*profile.list_features(), *profile.list_special_features()]
    ]
    return join_first(names_, MAX_LISTED)


def find_profile(name: str, folder: Path = BUILTIN) -> Path | None:
    """Return the file of a profile in a folder, by default of a profile that ships with dbctl; None: it has none of that name."""
    path = folder / f"{name}.toml"
    return path if path.parent == folder and os.path.isfile(path) else None


def path_of(name: str) -> Path:
    """Return the file of a profile, or the path itself if ``name`` ends in ``.toml``.

    The order of ``list_available`` is the precedence of profiles with the same name.

    Raises:
        ProfileMissingError: no profile has that name.
    """
    if name.endswith(".toml"):
        return Path(name)
    for _, folder in _list_folders():
        if path := find_profile(name, folder):
            return path
    known = dict.fromkeys(profile.name for profile in list_available())
    raise ProfileMissingError(name=name, names=", ".join(known), candidates=known)


def load(name: str) -> Profile:
    """Return the profile of that name or path.

    Raises:
        ProfileInvalidError: the first error in the file, with its line and key.
    """
    from dbctl.profiles.model.profile import Profile

    path = path_of(name)
    prepared: Profile | None = _read_cache(path, Profile) if path.parent == BUILTIN else None
    if prepared:
        return prepared
    try:
        return read(path)
    except toml.TomlError as error:
        first = error.problems[0]
        raise ProfileInvalidError(file=path, line=first.line, key=first.key, reason=first.reason) from error


def load_core(name: str) -> CoreProfile:
    """Return the core of a built-in profile that no deployment changes, otherwise the whole profile; raises as ``load``."""
    path = find_profile(name)
    core = _read_cache(path, _BuiltInCore) if path else None
    return core if core and not (core.prefix or core.versions) else load(name)


def complete(core: CoreProfile) -> Profile:
    """Return the whole profile, of which ``load_core`` may have returned only the core."""
    from dbctl.profiles.model.profile import Profile

    return core if isinstance(core, Profile) else load(core.name)


class _BuiltInCore(CoreProfile, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The core in the JSON of a whole profile."""

    versions: Sequence[msgspec.Raw] = msgspec.field(default=(), name="variants")


class Cache(msgspec.Struct, frozen=True):
    """A TOML file in JSON, which loads about 40 times faster; ``tools.profiles`` writes it."""

    source_crc32: int  #: CRC-32 of the TOML file
    profile: msgspec.Raw  #: or the ledgers
    added_sections: Sequence[str] = ()  #: the sections of the profile that extensions own


@cache
def _read_cache(path: Path, kind: type[T]) -> T | None:
    """Return the content of a TOML file from its cache; None if that is missing or outdated."""
    try:
        cached = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Cache)
        if cached.source_crc32 != crc32(path.read_bytes()):
            return None
        if cached.added_sections and kind.__struct_config__.forbid_unknown_fields:
            from dbctl.profiles.variants import find_type

            kind = find_type(cached.added_sections)  # type: ignore[assignment] # a subclass of ``Profile``, which is ``kind``
        return msgspec.json.decode(cached.profile, type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def read(path: Path) -> Profile:
    """Return the profile in a file.

    Raises:
        TomlError: the file has errors.
        FileMissingError, FileFailedError: the file does not exist, or cannot be read.
    """
    with report_file_errors(path, kind="profile"):
        text = toml.read_text(path)
    return parse(text)


@lru_cache(maxsize=16)  # a deployment has several apps with the same profile
def parse(text: str) -> Profile:
    """Return the profile of the text of a file.

    Raises:
        TomlError: it has errors.
    """
    from dbctl.profiles.variants import find_type

    values = toml.loads(text)
    profile = toml.structure(values, find_type(values), text)
    if profile.variants:
        from dbctl.profiles.variants import validate_variants

        validate_variants(profile, text)
    return profile


SOURCE = Path(__file__).with_name("ledgers.toml")


class Ledgers(Section, frozen=True, kw_only=True):
    """The supported ledgers, by name."""

    ledgers: Mapping[str, Ledger]  #: ledgers that dbctl reads and writes
    foreign: Mapping[str, ForeignLedger]  #: ledgers that it only reads


def load_ledgers() -> Ledgers:
    """Return the supported ledgers."""
    prepared: Ledgers | None = _read_cache(SOURCE, Ledgers)
    if prepared:
        return prepared
    text = toml.read_text(SOURCE)
    return toml.structure(toml.loads(text), Ledgers, text)
