"""Create a sample deployment and its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.config import loader
from dbctl.extensions.demo.builder import DemoBuilt, build_sample
from dbctl.extensions.demo.definition import check_urls, check_variant
from dbctl.model import Closing, Plan, Row
from dbctl.services.setup.init import InitConfig, read_configuration


class SampleBuilt(DemoBuilt, frozen=True, kw_only=True):
    """Result of ``demo``."""

    config: Path

    @property
    def closing(self) -> Closing:
        # the rows of each kind are in the summary; other tables, such as those of links, have more
        return Closing(f"Created a sample of {self.profile}", bytes=self.bytes, is_timed=True)

    def summary(self) -> Row:
        accounts = [
            {"login": account.login, "password": account.password, "role": account.role}
            for account in self.accounts
        ]
        return {"directory": self.directory, "config": self.config.name, **self.rows, "accounts": accounts}


class Sample:
    """A sample deployment to create."""

    protected, target = False, ""

    def __init__(
        self,
        profile: str,
        directory: Path,
        *,
        counts: Mapping[str, int],
        urls: Sequence[str],
        variant: str = "",
        seed: int,
    ) -> None:
        """Check the options.

        Raises:
            NotSupportedError, UsageError: see ``check_urls``.
            FeatureMissingError, MigrationVariantUnknownError: see ``check_variant``.
            AlreadyExistsError: the configuration in the directory already has an app with this name.
        """
        self.app = profile
        self._directory, self._seed = directory, seed
        self._counts, self._urls, self._variant = counts, urls, variant
        self._urls_by_name = loader.parse_urls(urls, Path.cwd())
        check_urls(profile, self._urls_by_name)
        check_variant(profile, variant)
        read_configuration(directory / loader.FILE_NAME, profile)

    def plan(self) -> Plan:
        variant = f", variant {self._variant}" if self._variant else ""
        steps = [
            f"create databases of {self.app} with generated rows in {self._directory}",
            *(f"fill the empty database {url} ({name}{variant})" for name, url in self._urls_by_name.items()),
            f"write {loader.FILE_NAME}",
        ]
        return Plan(
            title=f"Sample of {self.app}", target=str(self._directory), steps=steps, rows=self._counts
        )

    def apply(self, confirmed: str | None = None) -> SampleBuilt:
        """Create the sample.

        Raises:
            FileExistsAlreadyError: the directory already contains a file of the app.
            NotSupportedError: the profile has no sample.
        """
        del confirmed  # the directory is new, so a second plan is not needed
        built = build_sample(
            self._directory,
            profile=self.app,
            counts=self._counts,
            urls=self._urls_by_name,
            variant=self._variant,
            seed=self._seed,
        )
        file = self._directory / loader.FILE_NAME
        InitConfig(self.app, self._directory, app="", file=file, urls=self._urls, protected=False).apply()
        return SampleBuilt(
            **{name: getattr(built, name) for name in DemoBuilt.__struct_fields__}, config=file
        )
