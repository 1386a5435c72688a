"""A sample deployment and the configuration that goes with it, ready to be shown or made like every other change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl import demo
from dbctl.config import loader
from dbctl.demo import DemoBuilt
from dbctl.demo.random import Progress
from dbctl.model import Plan, Row
from dbctl.services.setup import Setup, has_room


class SampleBuilt(DemoBuilt, frozen=True, kw_only=True):
    """Answer of ``demo``."""

    config: Path

    def brief(self) -> Row:
        accounts = [{"login": one.login, "password": one.password, "role": one.role} for one in self.accounts]
        return {"directory": self.directory, "config": self.config.name, **self.rows, "accounts": accounts}


class Sample:
    """What ``demo`` is about to make."""

    protected = False

    def __init__(
        self,
        profile: str,
        directory: Path,
        *,
        counts: Mapping[str, int],
        urls: Sequence[str],
        shape: str = "",
        seed: int,
        advance: Progress,
    ) -> None:
        """Look at what was asked for.

        Raises:
            NotSupportedError, UsageError: see ``demo.refuse_misplaced``.
            AbilityMissingError, MigrationShapeUnknownError: see ``demo.refuse_unshaped``.
            AlreadyExistsError: the directory has a configuration with such an app.
        """
        self.app = profile
        self._directory, self._seed, self._advance = directory, seed, advance
        self._counts, self._urls, self._shape = counts, urls, shape
        self._places = loader.given(urls, Path.cwd())
        demo.refuse_misplaced(profile, self._places)
        demo.refuse_unshaped(profile, shape)
        has_room(directory / loader.FILE_NAME, profile)

    def plan(self) -> Plan:
        """Return what would be made."""
        shape = f", of the shape {self._shape}" if self._shape else ""
        steps = [
            f"build databases of {self.app} with invented rows in {self._directory}",
            *(f"fill the empty database {url} ({name}{shape})" for name, url in self._places.items()),
            f"write {loader.FILE_NAME}",
        ]
        return Plan(
            title=f"Sample of {self.app}", target=str(self._directory), steps=steps, rows=self._counts
        )

    def apply(self, seen: str | None = None) -> SampleBuilt:
        """Make it.

        Raises:
            FileExistsAlreadyError: the directory holds something.
            NotSupportedError: there is no sample of that profile.
        """
        del seen  # nothing else writes there
        built = demo.build(
            self._directory,
            profile=self.app,
            counts=self._counts,
            urls=self._places,
            shape=self._shape,
            seed=self._seed,
            progress=self._advance,
        )
        file = self._directory / loader.FILE_NAME
        Setup(self.app, self._directory, app="", file=file, urls=self._urls, protected=False).apply()
        return SampleBuilt(
            **{name: getattr(built, name) for name in DemoBuilt.__struct_fields__}, config=file
        )
