"""Failures of installed profiles: sources that cannot be read, other digests, names in use, keys that could run something."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit

_NOTHING = "Nothing was installed."


class ProfileUnreachableError(DbctlError, status=Exit.UNREACHABLE):
    sentence, remedy = "{source} cannot be read: {reason}", f"{_NOTHING} {{hint}}"


class ProfileSourceError(DbctlError, status=Exit.USAGE):
    """Context: ``source`` and ``reason``."""

    sentence = "{source} is no source of a profile: {reason}"
    remedy = f"{_NOTHING} Pass a file, or an address https://HOST/PATH with --sha256."


class ProfileDigestError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the SHA-256 of {source} is {actual}, not {expected}"
    remedy = f"{_NOTHING} Compare the digest with the one that its author published: the file is another one, or incomplete."


class ProfileUnsafeError(DbctlError, status=Exit.REFUSED):
    sentence = "{source} may run something, line {line}, {key}: {reason}"
    remedy = f'{_NOTHING} Read it; if you trust it, save it and use its path as the profile of an app: profile = "/path/{{name}}.toml".'


class ProfileNameTakenError(DbctlError, status=Exit.REFUSED):
    """Context: ``name``, ``other`` is the existing profile, and ``hint``."""

    sentence, remedy = "there is {other} with the name {name}", f"{_NOTHING} {{hint}}"


class ProfileNotInstalledError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no profile {name!r} was installed in {folder}"
    remedy = "List the profiles and their sources with: `profiles list`"


class ProfileInUseError(DbctlError, status=Exit.REFUSED):
    sentence = "the profile {name} is that of {apps}"
    remedy = "Nothing was deleted. Set another profile of these apps in the configuration first."
