"""Failures of comparisons of two databases."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class SideMissingError(DbctlError):
    code, exit_status = "side-missing", Exit.NOT_FOUND
    sentence = "no app, database or file {name!r}"
    remedy = "Pass APP/DATABASE, the address of a database, or backup:ID. List apps with: dbctl apps list"


class SidesSameError(DbctlError):
    code, exit_status = "sides-same", Exit.USAGE
    sentence = "{first} and {second} are the same database"
    remedy = "Pass two databases, or a database and backup:ID."
