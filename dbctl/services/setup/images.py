"""What the images of database servers define: their engine, and the variables with user, password and database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from dbctl.url import DEFAULT_PORTS

#: The last parts of the names of images, and their engine.
_IMAGES = {
    **dict.fromkeys(
        ("pgvecto-rs", "pgvector", "postgis", "postgres", "postgresql", "timescaledb", "timescaledb-ha"),
        "postgresql",
    ),
    **dict.fromkeys(("mariadb", "mysql", "mysql-server", "percona", "percona-server"), "mysql"),
}


class _Names(NamedTuple):
    """Variables of the images of an engine, in the order in which they are read."""

    users: Sequence[str]
    passwords: Sequence[str]  #: of that user
    superuser: str  #: the user if no variable names one
    superuser_passwords: Sequence[str]
    databases: Sequence[str]
    has_database_of_user: bool = False  #: without a variable, the database has the name of the user
    has_own_superuser: bool = False  #: the user of the variables is no superuser


_NAMES = {
    "postgresql": _Names(
        users=("POSTGRES_USER", "POSTGRESQL_USERNAME"),
        passwords=("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
        superuser="postgres",
        superuser_passwords=("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
        databases=("POSTGRES_DB", "POSTGRESQL_DATABASE"),
        has_database_of_user=True,
    ),
    "mysql": _Names(
        users=("MARIADB_USER", "MYSQL_USER"),
        passwords=("MARIADB_PASSWORD", "MYSQL_PASSWORD"),
        superuser="root",
        superuser_passwords=("MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"),
        databases=("MARIADB_DATABASE", "MYSQL_DATABASE"),
        has_own_superuser=True,
    ),
}
#: What follows the name of a variable that has the path of a file with the value.
FILE_SUFFIX = "_FILE"


class Login(NamedTuple):
    """The user and the database that the variables of an image define."""

    user: str
    database: str  #: empty: none of the variables names it
    key: str  #: the variable with the password, without ``_FILE``; empty: the user has none


def find_engine(image: str, variables: Collection[str] = (), ports: Collection[int] = ()) -> str | None:
    """Return the engine of the server in a container: by its image, otherwise by a variable and the port of an engine.

    Args:
        image: the name of the image, with its registry and its tag.
        variables: the names of those in the container.
        ports: those that the container exposes to its networks.
    """
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if engine := _IMAGES.get(name):
        return engine
    for engine, names in _NAMES.items():
        keys = {*names.users, *names.passwords, *names.superuser_passwords, *names.databases}
        if DEFAULT_PORTS[engine] in ports and any(key.removesuffix(FILE_SUFFIX) in keys for key in variables):
            return engine
    return None


def read_login(
    engine: str, variables: Mapping[str, str], read: Callable[[str], str], *, is_superuser: bool = False
) -> Login:
    """Return the user and the database of a server, with the defaults of the official images.

    ``read`` returns the value of a variable, which may be in a file that ``KEY_FILE`` names; empty without a value.
    With ``is_superuser``, the user is the superuser, if the variables have its password.
    """
    names = _NAMES[engine]

    def find_key(keys: Sequence[str]) -> str:
        return next((key for key in keys if variables.get(key) or variables.get(f"{key}{FILE_SUFFIX}")), "")

    own = next(filter(None, map(read, names.users)), "")
    if is_superuser and names.has_own_superuser and find_key(names.superuser_passwords):
        own = ""
    user, key = own or names.superuser, find_key(names.passwords if own else names.superuser_passwords)
    database = next(filter(None, map(read, names.databases)), user if names.has_database_of_user else "")
    return Login(user, database, key)


def write_address(engine: str, login: Login, password: str, host: str, port: str) -> str:
    """Return the address of a database, in which ``password`` is already encoded, or the name of a variable."""
    user = f"{quote(login.user, safe='')}{':' if password else ''}{password}"
    return f"{engine}://{user}@{host}:{port}/{quote(login.database, safe='')}"
