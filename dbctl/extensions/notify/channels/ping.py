"""Pings of the Healthchecks protocol: the service reports a job that does not ping in time, even if the machine is off."""

from __future__ import annotations

from uuid import uuid4

from dbctl.extensions.notify.addresses import fill_address
from dbctl.extensions.notify.channels.base import cut_text, describe_address

#: Bytes of the text that a ping sends.
MAX_BODY = 10_000


class Ping:
    """The pings of one run to one address."""

    name = "ping"

    def __init__(self, address: str) -> None:
        """Read nothing yet; ``address`` may contain variables."""
        self._address = address
        self._run = str(uuid4())

    @property
    def place(self) -> str:
        """The address for messages, without the parts that may be secret."""
        return describe_address(self._address)

    def begin(self) -> None:
        """Report that the run begins; raises the exceptions of ``Channel.send``."""
        self._post("/start", "")

    def finish(self, exit_code: int, text: str) -> None:
        """Report the end of the run with the last lines of a text; raises the exceptions of ``Channel.send``."""
        self._post(f"/{exit_code}", text)

    def test(self) -> None:
        """Send an event that does not change the state of the check; raises the exceptions of ``Channel.send``."""
        from dbctl.extensions.notify.channels.http import post

        post(fill_address(self._address), b"Test of dbctl", {"Content-Type": "text/plain"}, path="/log")

    def _post(self, path: str, text: str) -> None:
        from dbctl.extensions.notify.channels.http import post

        body = cut_text(text, MAX_BODY, keep_end=True).encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        post(fill_address(self._address), body, headers, path=path, query=f"rid={self._run}")
