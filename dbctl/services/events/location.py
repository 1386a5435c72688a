"""Where the journal is: the directory of the environment, of the configuration, or of the user."""

from __future__ import annotations

from pathlib import Path

from dbctl.config import loader
from dbctl.config.environment import has_home, state_folder
from dbctl.config.model import AuditConfig, JournalConfig
from dbctl.config.sections import Sections, Selection, read_sections, report_first_problem
from dbctl.errors.base import DbctlError
from dbctl.errors.operations import JournalDisabledError
from dbctl.model import Struct


class JournalLocation(Struct, frozen=True, kw_only=True):
    """A journal, and the configuration and apps of a command."""

    folder: Path | None  #: None: runs are not recorded
    settings: JournalConfig = JournalConfig()
    audit: AuditConfig = AuditConfig()  #: the settings of the audit log, which is in the same folder
    config: str = ""  #: the absolute path of the configuration; empty: none
    apps: tuple[str, ...] = ()  #: those that the command selects, or all
    configuration: Sections | None = None  #: its sections; None: it is missing or invalid

    def require_folder(self) -> Path:
        """Return the folder.

        Raises:
            JournalDisabledError: runs are not recorded.
        """
        if self.folder is None:
            reason = "the directory of the journal is off" if has_home() else "the user has no home directory"
            raise JournalDisabledError(reason=reason)
        return self.folder

    @property
    def notifies(self) -> bool:
        """Whether the configuration has a section ``notify``."""
        return self.configuration is not None and self.configuration.notifies


def locate_journal(selection: Selection, *, all_apps: bool = False) -> JournalLocation:
    """Return the journal for a selection; a configuration with errors has the default settings."""
    if selection.profile and selection.urls:
        return JournalLocation(folder=state_folder(), apps=(selection.app,) if selection.app else ())
    settings, audit, config, names, sections = JournalConfig(), AuditConfig(), "", list[str](), None
    try:
        path = loader.config_path(selection)
        config = str(path.absolute())
        with report_first_problem(path):
            sections = selection.sections or read_sections(path)  # which reads no variable or secret
        settings, audit, names = sections.journal, sections.audit, list(sections.apps)
    except DbctlError:  # the command itself reports it
        pass
    if selection.app and not all_apps:
        names = [selection.app]
    elif not all_apps and len(names) > 1:  # the command refuses
        names = []
    return JournalLocation(
        folder=state_folder(settings.folder),
        settings=settings,
        audit=audit,
        config=config,
        apps=tuple(names),
        configuration=sections,
    )
