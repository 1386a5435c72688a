"""The app's own file of settings in a profile: which variables contain the address of a database."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Sequence
from typing import Literal

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables below."""


class Variable(Part, frozen=True, kw_only=True):
    """One variable, and what the app takes where it is not set."""

    name: str
    default: str = ""


class Environment(Part, frozen=True, kw_only=True):
    """Where a database is: one variable holds the address, or each part of it has one of its own."""

    find: Sequence[str] = (".env",)  #: files that ``init`` looks for in the app's directory
    url: str = ""  #: the variable that holds the whole address; where it is set, it counts
    #: folders below the app's directory that a relative ``file:`` address may be meant from; the first with a database
    #: of the app counts
    relative_to: Sequence[str] = (".",)
    scheme: Literal["", "postgresql", "mysql"] = ""  #: of an address that is made of the parts
    host: Variable = Variable(name="", default="localhost")
    port: Variable = Variable(name="")
    user: Variable = Variable(name="")
    password: Variable = Variable(name="")
    database: Variable = Variable(name="")
    tls: str = ""  #: the variable that asks for encryption
    tls_option: str = "sslmode=require"  #: of the address, where it does
