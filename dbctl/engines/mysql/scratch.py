"""A scratch database, which is dropped when it is closed."""

from __future__ import annotations

import secrets
from contextlib import suppress

import pymysql

from dbctl.engines.mysql.database import MySQLWriter
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.url import Url

PREFIX = "dbctl_scratch_"
#: The pattern of these names for GRANT.
NAME_PATTERN = "dbctl\\_scratch\\_%"
CHARSET = """select default_character_set_name, default_collation_name from information_schema.schemata
where schema_name = database()"""


class MySQLScratch(MySQLWriter):
    """An empty database next to the one of a URL, with the same character set and collation.

    The user needs the right to create databases with such names. A script that names another database changes that database.
    """

    _scratch = ""

    def __init__(self, url: Url, target: str) -> None:
        super().__init__(url, target)
        connection = self.connection
        account = connection.session.account
        name = f"{PREFIX}{secrets.token_hex(6)}"
        try:
            ((charset, collation),) = connection.fetch(CHARSET)
            statement = f"create database {ident(name)} character set {charset} collate {collation}"
            connection.fetch(statement, writing=True)
            self._scratch = name
            connection.fetch(f"use {ident(name)}")
            connection.session.database = name
            self.catalog.forget()
        except PrivilegeMissingError as error:
            self.close()
            grant = f"GRANT ALL ON `{NAME_PATTERN}`.* TO {account};"
            instead = f"Nothing was changed. As an administrator: {grant}"
            raise PrivilegeMissingError(
                target=target, reason=error.context["reason"], hint=instead
            ) from error
        except BaseException:
            # An open connection must not outlive the failure, and neither must the database.
            self.close()
            raise

    def close(self) -> None:
        if self._scratch and self.connection.is_usable:
            with suppress(pymysql.Error):
                self.connection.session.run("rollback")
                self.connection.session.run(f"drop database if exists {ident(self._scratch)}")
        self._scratch = ""
        super().close()
