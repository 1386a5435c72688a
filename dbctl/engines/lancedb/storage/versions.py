"""The versions of a table as its folder tells them."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.lancedb.location import HINT, SUFFIX, VERSIONS, Files, hinted
from dbctl.engines.lancedb.storage.manifest import Manifest, ManifestUnreadableError, parse, version_of


class History:
    """What there is to tell of one table without the library."""

    def __init__(self, files: Files, table: str) -> None:
        self.folder = f"{table}{SUFFIX}"
        self._files = files

    def versions(self) -> dict[int, str]:
        """Return the files of all versions, the newest first."""
        told = {
            version: one.path
            for one in self._files.below(f"{self.folder}/{VERSIONS}")
            if (version := version_of(one.path.rpartition("/")[2])) is not None
        }
        return dict(sorted(told.items(), reverse=True))

    def hinted(self) -> int:
        """Return the version that was the newest when one was written last; 0 where nothing tells.

        Whoever compares it with what is there asks for this first, for versions may be written meanwhile.
        """
        try:
            return hinted(self._files.read(f"{self.folder}/{VERSIONS}/{HINT}"))
        except OSError:
            return 0

    def manifest(self, version: int) -> Manifest:
        """Return what a version is made of.

        Raises:
            ManifestUnreadableError: it is gone, cut off, or damaged.
        """
        path = self.versions().get(version)
        if path is None:
            raise ManifestUnreadableError("it is gone")
        return self.read(path)

    def read(self, path: str) -> Manifest:
        """Return what is told in a file; raises as ``manifest``."""
        try:
            return parse(self._files.read(path))
        except OSError as error:
            raise ManifestUnreadableError(error.strerror or str(error)) from error

    def unreadable(self, versions: Mapping[int, str]) -> str:
        """Return why the newest of these versions cannot be read, and which before it can; empty: it can."""
        newest = next(iter(versions))
        try:
            self.read(versions[newest])
        except ManifestUnreadableError as error:
            whole = self._whole(versions)
            older = f"version {whole} can be read" if whole else "none before it can be read either"
            return f"its newest version, {newest}, cannot be read: {error}; {older}"
        return ""

    def _whole(self, versions: Mapping[int, str]) -> int | None:
        for version, path in versions.items():
            try:
                self.read(path)
            except ManifestUnreadableError:
                continue
            return version
        return None

    def sizes(self, below: str = "") -> Mapping[str, int]:
        """Return every file that stands in the folder, or below a path in it, as the table names it, in bytes."""
        root = f"{self.folder}/"
        return {one.path.removeprefix(root): one.bytes for one in self._files.below(root + below)}
