"""Find the databases of a container: its own, by what the images of database servers define, or those that the variables of an app name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import quote

from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import UnreachableError
from dbctl.errors.usage import UrlInvalidError, UsageError
from dbctl.extensions import registry
from dbctl.model import Struct
from dbctl.profiles.model.profile import Profile
from dbctl.services.setup import addresses
from dbctl.services.setup.addresses import Address, SecretPlace, list_urls
from dbctl.url import DEFAULT_PORTS, LOOPBACK, ROUTE_PARTS, Url, encode_route, parse_url

#: The last parts of the names of images, and their engine.
_IMAGES = {
    **dict.fromkeys(
        ("pgvecto-rs", "pgvector", "postgis", "postgres", "postgresql", "timescaledb", "timescaledb-ha"),
        "postgresql",
    ),
    **dict.fromkeys(("mariadb", "mysql", "mysql-server", "percona", "percona-server"), "mysql"),
}
#: What may be a host in the value of a variable: ``HOST``, ``HOST:PORT``, ``SCHEME://HOST/…``.
_HOSTS = re.compile(r"(?:^|//|@)([\w.-]+)")
#: The host of an address, before its path.
_HOST = re.compile(r"@(\[[^]]*\]|[^:/?@]*)(?=[^@]*$)")
_INIT = Remedy("`init {via}`")


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


class ContainerFacts(Struct, frozen=True, kw_only=True):
    """What a running container is, whatever program runs it."""

    via: str  #: the route to it
    name: str
    image: str
    environment: Mapping[str, str]  #: with passwords
    ports: Collection[int]  #: that it exposes to its networks
    hostnames: Collection[str]  #: by which other containers of its networks reach it
    networks: Collection[str]
    service: str = ""  #: of Compose
    project: str = ""  #: of Compose
    #: the program that runs another one in it; it names the container as a later one of the same name is named
    command: Sequence[str]

    @property
    def engine(self) -> str | None:
        """The engine of its database server; None: it has none."""
        return find_engine(self.image, self.environment, self.ports)

    def locate(self, key: str) -> SecretPlace:
        """Return the program that prints the value of a variable, or the file that ``KEY_FILE`` names."""
        words = ["printenv", key]
        if not self.environment.get(key):
            words = ["cat", "--", self.environment.get(f"{key}{FILE_SUFFIX}", "")]
        return SecretPlace(command=[*self.command, *words])


def is_route(text: str) -> bool:
    """Return whether a text begins like a route, and not like the address of a database."""
    return text.partition(":")[0] in ROUTE_PARTS and "://" not in text


def find_service(project: str, service: str, file: Path, port: str) -> ContainerFacts:
    """Return the running container of a service of Compose that publishes no port.

    Raises:
        UnreachableError: none is running, several are, or it cannot be reached.
    """
    via = f"compose:{project}/{service}"
    try:
        return _describe(via)[0]
    except DbctlError as error:
        if error.code == "container-ambiguous":
            raise
        start = f"Start it with: docker compose up --detach {service}; if its project has another name, pass compose:NAME/{service}"
        advice = start if error.code == "container-missing" else "Make docker ps succeed on this machine"
        reason = error.context.get("reason", error)
        raise UnreachableError(
            target=via,
            reason=f"service {service} of {file} publishes no port on this machine: {reason}",
            hint=f'{advice}; or add ports: ["{LOOPBACK}:{port}:{port}"], or run dbctl in a container of its network.',
        ) from error


def list_container_addresses(via: str, profiles: Iterable[Profile]) -> Sequence[tuple[str, Address]]:
    """Return the databases of the container at the end of a route, each with a name.

    That of a server has the database that the variables of its image define. Otherwise it is that of an app, and the database has the
    address that its variables contain; without an address, it is that of the only server whose host they contain.

    Raises:
        UnreachableError: no such container is running, or it cannot be reached.
        UsageError: its variables name no server, or a host that several containers have.
    """
    container = _describe(via)[0]
    if container.engine:
        return [_build_address(container)]
    app, *others = _describe(via, with_neighbors=True)
    if own := [*_list_urls(app, others)] or [*_list_parts(app, others, profiles)]:
        return own
    hosts = {host for value in app.environment.values() for host in _HOSTS.findall(value)}
    servers = [_find_server(app, others, host) for host in sorted(hosts)]
    if named := {server.name: server for server in servers if server}:
        return [_build_address(server) for server in named.values()]
    near = [other.via for other in others if other.engine and _is_near(app, other)]
    commands = "; ".join(_INIT.write(facts={"via": other}) for other in near)
    hint = (
        f"These run next to it: {commands}"
        if near
        else "Pass the address of its database, or the container of its server."
    )
    detail = f"{via} is no database server (image {app.image}), and its variables name none that is running"
    raise UsageError(detail=detail, hint=hint)


def read_server_url(via: str, database: str) -> Url:
    """Return the address of a database of the server in the container at the end of a route, as its superuser, if the container defines its password.

    Raises:
        UnreachableError: no such container is running, or it cannot be reached.
        UsageError: it is no database server, or its password cannot be read.
    """
    container = _describe(via)[0]
    if not container.engine:
        raise UsageError(
            detail=f"{via} is no database server (image {container.image})",
            hint="Pass the container of a server, or the address of one.",
        )
    return parse_url(_build_address(container, database, is_superuser=True)[1].fill())


def _describe(via: str, *, with_neighbors: bool = False) -> Sequence[ContainerFacts]:
    describe = registry.require(
        "describe_containers", f"the route {via}", "Pass the address of a database that this machine reaches."
    )
    return cast("Sequence[ContainerFacts]", describe(via, with_neighbors=with_neighbors))


def _read_login(container: ContainerFacts, *, is_superuser: bool = False) -> Login:
    def read(key: str) -> str:
        value = container.environment.get(key, "")
        return container.locate(key).read() if f"{key}{FILE_SUFFIX}" in container.environment else value

    return read_login(str(container.engine), container.environment, read, is_superuser=is_superuser)


def _build_address(
    container: ContainerFacts, database: str = "", port: int | None = None, *, is_superuser: bool = False
) -> tuple[str, Address]:
    """Return the address of a database with the login that the container of its server defines, and a name for it.

    Args:
        container: that of the server.
        database: default: the one that the container defines.
        port: default: that of the engine.
        is_superuser: whether the login is that of the superuser, if the container defines it.
    """
    engine, login = str(container.engine), _read_login(container, is_superuser=is_superuser)
    if not (login.database or database):
        address = f"{engine}://{login.user}@{LOOPBACK}/NAME?via={encode_route(container.via)}"
        detail = f"{container.via}: its variables name no database"
        raise UsageError(detail=detail, hint=f"Pass its address: {address}")
    login = login._replace(database=database or login.database)
    password = f"${{{login.key}}}" if login.key else ""
    text = write_address(engine, login, password, LOOPBACK, str(port or DEFAULT_PORTS[engine]))
    secrets = {login.key: container.locate(login.key)} if login.key else {}
    return container.service or container.name, Address(text=text, via=container.via, secrets=secrets)


def _list_urls(app: ContainerFacts, others: Sequence[ContainerFacts]) -> Iterator[tuple[str, Address]]:
    """Yield the databases of variables with a whole address; a file has an absolute path."""
    for key, value in list_urls(app.environment):
        try:
            url = parse_url(value)
        except UrlInvalidError:
            continue
        name = Path(url.path).stem or key.lower()
        if url.engine in DEFAULT_PORTS:
            # The host of the app is a part of the secret, so the app's container is the end of the route.
            whole = Address(text=f"${{{key}}}", via=app.via, secrets={key: app.locate(key)})
            yield name, _use_login(_find_server(app, others, url.host), url) or whole
        elif url.path.startswith("/"):
            yield name, Address(text=f"{url.engine}:{quote(url.path)}", via=app.via)


def _list_parts(
    app: ContainerFacts, others: Sequence[ContainerFacts], profiles: Iterable[Profile]
) -> Iterator[tuple[str, Address]]:
    """Yield the databases of variables with the parts of an address, as the profiles name them."""
    for profile in profiles:
        for name, section in profile.databases.items():
            environment = section.environment
            if environment is None:
                continue
            parts = (environment.host.name, environment.user.name, environment.database.name)
            if not all(part in app.environment for part in parts):
                continue  # the variables of another app
            key = environment.password.name
            in_file = {key: key} if f"{key}{FILE_SUFFIX}" in app.environment else {}
            try:
                text = addresses.build_address(section, {**app.environment, **in_file}, app.via, name)
                url = parse_url(text)
            except DbctlError:
                continue
            server = _find_server(app, others, url.host)
            own = Address(
                text=_HOST.sub(f"@{LOOPBACK}", text) if server else text,
                via=(server or app).via,
                secrets={key: app.locate(key)} if f"${{{key}}}" in text else {},
            )
            yield Path(url.path).stem, _use_login(server, url) or own


def _use_login(server: ContainerFacts | None, url: Url) -> Address | None:
    """Return the database of an app with the login that its container defines; None: that of the app is another one."""
    if server is None or server.engine != url.engine or _read_login(server).user != url.user:
        return None
    return _build_address(server, url.path, url.port)[1]


def _find_server(app: ContainerFacts, others: Sequence[ContainerFacts], host: str) -> ContainerFacts | None:
    """Return the container of a database server that an app reaches by a host; None: it is no container.

    Raises:
        UsageError: several have that host.
    """
    servers = [other for other in others if host in other.hostnames and other.engine and _is_near(app, other)]
    # In a network of several projects, that of the own project is meant.
    own = [server for server in servers if server.project == app.project]
    servers = own or servers
    if len(servers) > 1:
        commands = "; ".join(_INIT.write(facts={"via": server.via}) for server in servers)
        detail = f"{app.via}: {len(servers)} containers have the host {host} of its database: {', '.join(server.name for server in servers)}"
        raise UsageError(detail=detail, hint=f"Nothing was written. Configure one of them with: {commands}.")
    return servers[0] if servers else None


def _is_near(app: ContainerFacts, other: ContainerFacts) -> bool:
    """Whether an app may reach a container by its name."""
    return bool(set(app.networks) & set(other.networks)) or bool(app.project and app.project == other.project)
