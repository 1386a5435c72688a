"""A database in which something is tried; it is dropped when it is closed."""

from __future__ import annotations

import secrets
from contextlib import suppress

import pymysql

from dbctl.engines.mysql.writer import MySQLWriter
from dbctl.engines.sql import ident
from dbctl.errors import PrivilegeMissingError
from dbctl.url import Url

PREFIX = "dbctl_scratch_"
#: The names that begin so, as a GRANT tells them.
ANY = "dbctl\\_scratch\\_%"
LIKE = """select default_character_set_name, default_collation_name from information_schema.schemata
where schema_name = database()"""


class MySQLScratch(MySQLWriter):
    """An empty database beside the one at a URL, with the same character set and collation.

    The user needs the right to create databases of such names. What a script says of another database by its name it
    does there.
    """

    _scratch = ""

    def __init__(self, url: Url, target: str) -> None:
        super().__init__(url, target)
        account = self._current().account
        name = f"{PREFIX}{secrets.token_hex(6)}"
        try:
            ((charset, collation),) = self._rows(LIKE, {})
            made = f"create database {ident(name)} character set {charset} collate {collation}"
            self._rows(made, {}, writing=True)
            self._scratch = name
            self._rows(f"use {ident(name)}", {})
            self._current().database = name
            self._tables = None
        except PrivilegeMissingError as error:
            self.close()
            grant = f"GRANT ALL ON `{ANY}`.* TO {account};"
            instead = f"Nothing was changed. As an administrator: {grant}"
            raise PrivilegeMissingError(
                target=target, reason=error.facts["reason"], instead=instead
            ) from error
        except (
            BaseException
        ):  # an open connection must not outlive the failure, and neither must the database
            self.close()
            raise

    def close(self) -> None:
        if self._scratch and self._session is not None and not self._is_broken():
            with suppress(pymysql.Error):
                self._session.run("rollback")
                self._session.run(f"drop database if exists {ident(self._scratch)}")
        self._scratch = ""
        super().close()
