"""Addresses of folders on other machines: ``sftp://[USER@]HOST[:PORT]/PATH``, and ``rclone:REMOTE:PATH``."""

from __future__ import annotations

import re

from dbctl.config.secrets import redact_text
from dbctl.errors.backup import StorageSettingInvalidError
from dbctl.files.ssh import list_options, split_address
from dbctl.model import Struct

SFTP, RCLONE = "sftp://", "rclone:"
#: A host is an argument of ssh, so it begins with no hyphen.
_HOST = r"(?a)([\w][\w.=+-]*@)?([\w][\w.-]*|\[[\w:.%]+\])(:\d{1,5})?"
#: A remote of the configuration of rclone, and not an address with settings, which might contain a password.
_REMOTE = r"(?a)[\w][\w .+@-]*"
_FORMS = {
    SFTP: "sftp://[USER@]HOST[:PORT]/PATH, or …/~/PATH below the home directory",
    RCLONE: "rclone:REMOTE:PATH",
}
#: The folder below the home directory of the server's user, with which a connection begins.
_HOME = "~/"
#: Of the server that rclone is for dbctl: it asks the remote each time, and nothing is delayed.
_RCLONE_OPTIONS = ("--stdio", "--dir-cache-time", "0s", "--vfs-cache-mode", "off", "--dir-perms", "0700", "--file-perms", "0600")  # fmt: skip


class FileServerAddress(Struct, frozen=True, kw_only=True):
    """A folder of a server of files."""

    scheme: str  #: ``SFTP`` or ``RCLONE``
    server: str  #: ``[USER@]HOST[:PORT]``, or the name of a remote
    path: str  #: without trailing slash

    @property
    def text(self) -> str:
        if self.scheme == RCLONE:
            return f"{RCLONE}{self.server}:{self.path}"
        return f"{SFTP}{self.server}{self.path if self.path.startswith('/') else f'/{_HOME}{self.path}'}"

    @property
    def root(self) -> str:
        """The folder, as the program of ``list_words`` names it; rclone begins in it."""
        return self.path if self.scheme == SFTP else ""

    def list_words(self, seconds: float) -> list[str]:
        """Return the program that connects with the server by SFTP; ``seconds`` limit the time until it is connected."""
        if self.scheme == RCLONE:
            return ["rclone", "serve", "sftp", *_RCLONE_OPTIONS, f"{self.server}:{self.path}"]
        port, destination = split_address(self.server)
        # the first value of an option counts
        limit = ["-o", f"ConnectTimeout={max(1, round(seconds))}"]
        return ["ssh", *limit, *list_options(), *port, "-s", "--", destination, "sftp"]

    @property
    def hint(self) -> str:
        """The command that shows whether the server can be reached."""
        if self.scheme == RCLONE:
            return f"Check that this works: rclone lsd {self.server}:"
        port, destination = split_address(self.server)
        words = " ".join(["sftp", *(["-P", port[1]] if port else []), destination])
        return f"Check that this works without a question: {words}"


def is_file_server(address: str) -> bool:
    return address.startswith((SFTP, RCLONE))


def parse_file_server(text: str) -> FileServerAddress:
    """Parse an address of a server of files.

    Raises:
        StorageSettingInvalidError: the address is invalid.
    """
    scheme = SFTP if text.startswith(SFTP) else RCLONE
    server, separator, path = text.removeprefix(scheme).partition("/" if scheme == SFTP else ":")

    def refuse(reason: str) -> StorageSettingInvalidError:
        setting = f"the address {redact_text(text)!r}"
        return StorageSettingInvalidError(setting=setting, reason=reason, hint=f"Write {_FORMS[scheme]}.")

    if ":" in server.rpartition("@")[0]:
        raise refuse("addresses must not contain passwords")
    if not separator or not re.fullmatch(_HOST if scheme == SFTP else _REMOTE, server):
        raise refuse("it names no host" if scheme == SFTP else "it names no remote")
    if not text.isprintable() or any(part in {".", ".."} for part in path.split("/")):
        raise refuse("its path contains .. or characters that cannot be printed")
    is_relative = path.startswith(_HOME) or path == "~"
    path = path.removeprefix("~").strip("/") if scheme == SFTP else path.rstrip("/")
    if not path and scheme == SFTP:
        raise refuse("it names no folder")
    return FileServerAddress(
        scheme=scheme, server=server, path=path if is_relative or scheme == RCLONE else f"/{path}"
    )
