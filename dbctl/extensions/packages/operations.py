"""Install profiles into a folder in which commands find them by name, replace them by newer ones, and delete them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from dbctl.config.environment import profile_folders
from dbctl.errors.base import Remedy
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import ProfileInvalidError, UsageError
from dbctl.extensions.packages.errors import (
    ProfileNameTakenError,
    ProfileNotInstalledError,
    ProfileSourceError,
    ProfileUnsafeError,
)
from dbctl.extensions.packages.safety import find_unsafe
from dbctl.extensions.packages.sources import Package
from dbctl.files import atomic, toml
from dbctl.model import ChangeResult, Effect, Plan, Struct, now
from dbctl.profiles import loader
from dbctl.services.app.change import Operation
from dbctl.services.checks.profile import find_text_problems
from dbctl.services.profiles import Origin, compute_digest, read_record, record_path

#: Differing keys that a plan names; further ones are counted.
MAX_STEPS = 60
_MODE = 0o644


class ProfilePlaced(ChangeResult, frozen=True, kw_only=True):
    """Result of ``profiles install``, ``update`` and ``uninstall``."""

    name: str
    file: str
    source: str
    sha256: str
    verb: str  #: what was done; empty: nothing

    @property
    def effect(self) -> Effect | None:
        place = f"from {self.source}" if self.verb == "installed" else ""
        return Effect(self.verb, "profile", [self.name], place=place) if self.verb else None


class Difference(Struct, frozen=True, kw_only=True):
    """One key that two profiles have with different values; None: one of them lacks it."""

    key: str
    installed: str | None
    new: str | None

    def describe(self) -> str:
        """Return the step of a plan."""
        if self.installed is None:
            return f"add {self.key} = {self.new}"
        if self.new is None:
            return f"remove {self.key} = {self.installed}"
        return f"change {self.key} from {self.installed} to {self.new}"


class ProfileDifference(Struct, frozen=True, kw_only=True):
    """Result of ``profiles update --diff``."""

    name: str
    source: str
    installed: str  #: the SHA-256 of the installed file
    new: str  #: that of its source
    differences: Sequence[Difference]

    def summary(self) -> Sequence[Mapping[str, object]]:
        return [msgspec.structs.asdict(difference) for difference in self.differences]


def find_folder(*, system: bool) -> Path:
    """Return the folder of installed profiles, of the user or of the system.

    Raises:
        UsageError: the user has no home directory.
    """
    folders = profile_folders()
    folder = folders["system"] if system else folders.get("user")
    if folder is None:
        raise UsageError(detail="the user has no home directory: pass --system")
    return folder


def list_differences(installed: str, new: str) -> Sequence[Difference]:
    """Return the keys that differ between the texts of two profiles, in the order of their names."""
    before, after = dict(_flatten(toml.loads(installed))), dict(_flatten(toml.loads(new)))
    return [
        Difference(key=key, installed=before.get(key), new=after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flatten(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of TOML values, with their values as text."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{path}[{index}]")
    else:
        yield path, msgspec.json.encode(value).decode()


def check_package(package: Package) -> str:
    """Return the name of a profile that can be installed.

    Raises:
        ProfileInvalidError: the first error in its text.
        ProfileUnsafeError: it contains what could run something.
    """
    for problem in find_text_problems(package.text)[:1]:
        raise ProfileInvalidError(
            file=package.source, line=problem.line, key=problem.key, reason=problem.reason
        )
    values = toml.loads(package.text)
    name = str(values["name"])
    if not re.fullmatch(r"\w[\w.-]{0,63}", name) or name.endswith(".toml"):
        raise ProfileSourceError(source=package.source, reason=f"the name {name[:70]!a} is no name of a file")
    for key, reason in find_unsafe(values):
        unsafe = toml.create_problem(package.text, key, reason)
        raise ProfileUnsafeError(
            source=package.source, line=unsafe.line, key=unsafe.key, reason=reason, name=name
        )
    return name


class PlaceProfile(Operation):
    """Write a profile and its record."""

    def __init__(self, package: Package, folder: Path) -> None:
        """Check the text; raises as ``check_package``."""
        self.name = check_package(package)
        self.app, self.protected, self.target = "", False, self.name
        self._package, self._folder = package, folder
        self._path = folder / f"{self.name}.toml"

    def _write(self) -> None:
        """Write the profile, and then its record: without one, it is a profile of the user."""
        self._create_folder()
        package, path = self._package, self._path
        with atomic.write_atomically(path, mode=_MODE, replace=True) as file:
            file.write(package.text)
        record = Origin(source=package.source, sha256=package.sha256, installed_at=now())
        with atomic.write_atomically(record_path(path), mode=_MODE, replace=True) as file:
            file.write(msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n")

    def _create_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileFailedError(path=self._folder, reason=error.strerror or str(error)) from error

    def _report(self, verb: str) -> ProfilePlaced:
        return ProfilePlaced(
            name=self.name,
            file=str(self._path),
            source=self._package.source,
            sha256=self._package.sha256,
            verb=verb,
        )


class InstallProfile(PlaceProfile):
    """Install a profile under the name in its text."""

    def __init__(self, package: Package, folder: Path, *, shadow: bool) -> None:
        """Refuse a name that is in use; ``shadow`` allows that of a profile that is found after this folder.

        Raises:
            ProfileNameTakenError: there is a profile with that name.
            Others: as ``check_package``.
        """
        super().__init__(package, folder)
        self._is_equal = _read_bytes(self._path) == package.text.encode()
        others = [item for item in loader.list_available() if item.name == self.name]
        if not (self._is_equal and read_record(self._path)):
            self._refuse_taken(others, shadow=shadow)

    def _refuse_taken(self, others: Sequence[loader.AvailableProfile], *, shadow: bool) -> None:
        for other in others:
            if other.origin == "built-in":
                hint = f'dbctl would use its own. To use this one for an app, save it, and set its path: profile = "/path/{self.name}.toml".'
                raise ProfileNameTakenError(name=self.name, other="a built-in profile", hint=hint)
            if other.path == self._path:
                hint = "Delete or rename the file first."
                if read_record(self._path):
                    hint = Remedy("Compare them with: `profiles update {name} --diff`").write(
                        facts={"name": self.name}
                    )
                raise ProfileNameTakenError(name=self.name, other=f"{other.path}", hint=hint)
            if not shadow:
                hint = "To use the new one in its place, pass --shadow."
                raise ProfileNameTakenError(
                    name=self.name, other=f"a profile of origin {other.origin}", hint=hint
                )

    def plan(self) -> Plan:
        steps = [] if self._is_equal else [f"write {self._path}, SHA-256 {self._package.sha256}"]
        return self._create_plan(f"Install the profile {self.name} from {self._package.source}", steps)

    def apply(self, confirmed: str | None = None) -> ProfilePlaced:
        """Write the files; nothing if the same profile is installed."""
        self._require_confirmed(confirmed)
        if self._is_equal:
            return self._report("")
        self._write()
        return self._report("installed")


class UpdateProfile(PlaceProfile):
    """Replace an installed profile by another text of it."""

    def __init__(self, name: str, package: Package, folder: Path) -> None:
        """Compare the texts.

        Raises:
            ProfileNotInstalledError: no profile of this name was installed.
            ProfileNameTakenError: the new text has another name.
            Others: as ``check_package``.
        """
        super().__init__(package, folder)
        record = require_record(name, folder)
        if self.name != name:
            hint = f"Install it: it is the profile {self.name}, not {name}."
            raise ProfileNameTakenError(name=name, other="an installed profile", hint=hint)
        self._installed = (_read_bytes(self._path) or b"").decode("utf-8", "replace")
        self._is_edited = compute_digest(self._installed.encode()) != record.sha256
        self._differs = self._installed != package.text

    @property
    def difference(self) -> ProfileDifference:
        """The keys that differ."""
        return ProfileDifference(
            name=self.name,
            source=self._package.source,
            installed=compute_digest(self._installed.encode()),
            new=self._package.sha256,
            differences=self._list_differences(),
        )

    def _list_differences(self) -> Sequence[Difference]:
        try:
            return list_differences(self._installed, self._package.text)
        except toml.TomlError:  # a file that was damaged since
            return [Difference(key="the whole file", installed="invalid", new="valid")]

    def plan(self) -> Plan:
        differences = self._list_differences() if self._differs else []
        steps = [difference.describe() for difference in differences[:MAX_STEPS]]
        if len(differences) > MAX_STEPS:
            steps.append(f"change {len(differences) - MAX_STEPS} further keys")
        if self._differs and not differences:
            steps.append("change comments")
        if self._differs and self._is_edited:
            steps.append(f"overwrite changes that were made to {self._path} since its installation")
        title = f"Replace the profile {self.name} by {self._package.source}, SHA-256 {self._package.sha256}"
        return self._create_plan(title, steps, destructive=bool(steps))

    def apply(self, confirmed: str | None = None) -> ProfilePlaced:
        """Write the files; nothing if the texts are equal."""
        self._require_confirmed(confirmed)
        if not self._differs:
            return self._report("")
        self._write()
        return self._report("updated")


class UninstallProfile(Operation):
    """Delete an installed profile and its record."""

    def __init__(self, name: str, folder: Path) -> None:
        """Find the record; raises ProfileNotInstalledError."""
        self._record = require_record(name, folder)
        self._path = folder / f"{name}.toml"
        self.app, self.protected, self.target = "", False, name

    def plan(self) -> Plan:
        steps = [f"delete {self._path}, installed from {self._record.source}"]
        return self._create_plan(f"Uninstall the profile {self.target}", steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> ProfilePlaced:
        """Delete the profile first: a record alone is no profile."""
        self._require_confirmed(confirmed)
        try:
            self._path.unlink(missing_ok=True)
            record_path(self._path).unlink(missing_ok=True)
        except OSError as error:
            raise FileFailedError(path=self._path, reason=error.strerror or str(error)) from error
        return ProfilePlaced(
            name=self.target,
            file=str(self._path),
            source=self._record.source,
            sha256=self._record.sha256,
            verb="uninstalled",
        )


def require_record(name: str, folder: Path) -> Origin:
    """Return the record of an installed profile.

    Raises:
        ProfileNotInstalledError: there is none.
    """
    record = read_record(folder / f"{name}.toml") if Path(name).name == name else None
    if record is None:
        raise ProfileNotInstalledError(name=name, folder=folder)
    return record


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
