"""The versions of a table, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.lancedb.location import SUFFIX, Files
from dbctl.engines.lancedb.manifest import (
    HINT_FILE,
    VERSIONS_FOLDER,
    Manifest,
    ManifestError,
    list_manifests,
    parse,
    parse_hint,
)


class History:
    """The files and versions of one table, read without the library."""

    def __init__(self, files: Files, table: str) -> None:
        self.folder = f"{table}{SUFFIX}"
        self._files = files

    def versions(self) -> dict[int, str]:
        """Return the manifests of all versions, the newest first."""
        folder = f"{self.folder}/{VERSIONS_FOLDER}"
        names = [file.path.removeprefix(f"{folder}/") for file in self._files.walk(folder)]
        return {version: f"{folder}/{name}" for version, name in list_manifests(names).items()}

    def read_hint(self) -> int:
        """Return the newest version at the last write, or 0 if it is unknown.

        Callers that compare it with ``versions`` call this first, because versions may be written concurrently.
        """
        try:
            return parse_hint(self._files.read(f"{self.folder}/{VERSIONS_FOLDER}/{HINT_FILE}"))
        except OSError:
            return 0

    def read_version(self, version: int) -> Manifest:
        """Return the manifest of a version.

        Raises:
            ManifestError: it is missing, truncated or damaged.
        """
        path = self.versions().get(version)
        if path is None:
            raise ManifestError("it is missing")
        return self.read_manifest(path)

    def read_manifest(self, path: str) -> Manifest:
        """Return the manifest in a file; raises as ``read_version``."""
        try:
            return parse(self._files.read(path))
        except OSError as error:
            raise ManifestError(error.strerror or str(error)) from error

    def describe_unreadable(self, versions: Mapping[int, str]) -> str:
        """Return why the newest version cannot be read, and the newest readable one; empty if it can be read."""
        newest, reason = next(iter(versions)), ""
        for version, path in versions.items():
            try:
                self.read_manifest(path)
            except ManifestError as error:
                reason = reason or f"its newest version, {newest}, cannot be read: {error}"
            else:
                return reason and f"{reason}; version {version} can be read"
        return f"{reason}; no older version can be read"

    def file_sizes(self, below: str = "") -> Mapping[str, int]:
        """Return the size of every file below a path of the table folder, by its path relative to the table."""
        root = f"{self.folder}/"
        return {file.path.removeprefix(root): file.bytes for file in self._files.walk(root + below)}
