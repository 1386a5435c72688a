"""Lets dbctl run without the client programs that distributions install side by side."""

from dbctl.files import subprocesses

subprocesses.POSTGRESQL_FOLDERS = ()
