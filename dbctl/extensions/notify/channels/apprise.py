"""The services of Apprise, a Python package that dbctl[apprise] installs."""

from __future__ import annotations

import logging
from pathlib import Path

from dbctl.config.model import AppriseConfig
from dbctl.extensions.notify.channels.base import SendFailedError
from dbctl.extensions.notify.configuration import fill_text
from dbctl.extensions.notify.notice import Notice

_KINDS = {"error": "failure", "warning": "warning", "info": "info"}


class Apprise:
    """One or several services, each with its own address."""

    name = "apprise"

    def __init__(self, section: AppriseConfig, _folder: Path) -> None:
        self._section = section

    @property
    def place(self) -> str:
        """The schemes of the addresses, whose other parts may be secret."""
        schemes = (text.partition("://")[0] if "://" in text else text for text in self._section.urls)
        return ", ".join(f"{scheme}://" if "${" not in scheme else scheme for scheme in schemes)

    def send(self, notice: Notice) -> None:
        """Send a message to each service; as ``Channel.send``."""
        try:
            import apprise
        except ImportError:
            raise SendFailedError(
                "the Python package apprise is missing. Install it with: pip install 'dbctl[apprise]'"
            ) from None
        # Its messages contain addresses with secrets.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False
        failures = []
        for index, text in enumerate(self._section.urls, 1):
            service = apprise.Apprise()
            if not service.add(fill_text(text)):
                failures.append(f"Apprise does not support address {index}")
            elif not service.notify(
                body=notice.body, title=notice.title, notify_type=_KINDS[notice.severity]
            ):
                failures.append(f"the service of address {index} did not accept it")
        if failures:
            raise SendFailedError("; ".join(failures))
