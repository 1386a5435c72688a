"""The values of ``dbctl.toml``: apps, their backups, embedders, and schedules."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl.model import Compression
from dbctl.url import Url

#: The JSON Schema of ``ConfigFile``, which ``dbctl.profiles.generate`` writes.
CONFIG_SCHEMA = Path(__file__).with_name("config.schema.json")

#: The name of the app that --profile and --url describe without a configuration.
UNNAMED_APP = "app"

#: The profile for --url without --profile.
PLAIN = "plain"

#: The number of backups that a retention rule covers.
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The backups to retain; 0: no rule."""

    last: Count = 0  #: the N newest backups
    hourly: Count = 0  #: the newest of each of the last N hours
    daily: Count = 0  #: the newest of each of the last N days
    weekly: Count = 0  #: the newest of each of the last N weeks
    monthly: Count = 0  #: the newest of each of the last N months
    yearly: Count = 0  #: the newest of each of the last N years
    within: str = ""  #: all backups that are at most this much older than the newest: ``30d``


class EncryptionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup.encrypt]``: the recipients or passphrase of encrypted backups, and the key that decrypts them."""

    recipients: Sequence[str] = ()  #: ``age1…``, or public ssh keys
    recipients_file: str = ""  #: a file with further recipients, one per line
    passphrase_file: str = ""  #: a file with a passphrase, instead of recipients
    identity_file: str = ""  #: only commands that read backups need it


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup]``: where backups are stored, and how long."""

    repository: str  #: a directory, or ``s3://BUCKET/PREFIX``
    keep: Retention = Retention()  #: the backups that ``backup prune`` retains
    max_age: str = ""  #: ``26h``: the maximum age of the newest backup
    verify_within: str = ""  #: ``8d``: the maximum age of the last full verification of a backup
    drill_within: str = ""  #: ``32d``: the maximum age of the last drill of a database
    format: str = ""  #: the dump format, if the server has several: ``custom``, ``plain``
    compress: Compression = "gzip"  #: the compression of database files
    scratch: str = ""  #: the URL of a server for drills, instead of the app's server
    encrypt: EncryptionConfig | None = None  #: backups are encrypted with age
    staging: str = ""  #: a local folder for files before an upload, after a download, and before encryption


#: The kinds of programs and services that compute the vector of a text.
EmbedderKind: TypeAlias = Literal["gemini", "openai", "command", "local"]


class Embedder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[apps.NAME.embedder]``: computes the vector of a text, with the model that the app uses.

    Kinds: ``gemini``, Google's service; ``openai``, any service with an OpenAI-compatible ``/embeddings`` endpoint;
    ``command``, a program that reads the text from standard input and writes a JSON array; ``local``, a Python package in
    dbctl's environment.
    """

    kind: EmbedderKind  #: the program or service
    model: str = ""  #: the name of the model
    url: str = ""  #: base URL of another service, with its version: ``https://host/v1``
    key_env: str = ""  #: the variable with the key; default without ``url``: that of the service
    key_file: str = ""  #: a file whose first line is the key
    #: the numbers of a vector, for models that support several
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    task: str = ""  #: gemini: the purpose of the vector, ``RETRIEVAL_QUERY``
    command: Sequence[str] = ()  #: the program and its arguments, run without a shell
    package: Literal["", "fastembed", "sentence-transformers"] = (
        ""  #: local: the package that computes vectors
    )
    timeout: str = "30s"  #: for all attempts together


class SearchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.search]``: the folder of external search indexes."""

    folder: str  #: instead of the folder of the database, or of the user's cache


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.schedule]``: cron expressions of jobs; ``off`` disables a job, empty means its default time."""

    search: str = ""  #: ``search index build``
    backup: str = ""  #: ``backup create``
    prune: str = ""  #: ``backup prune``
    verify: str = ""  #: ``backup verify``
    drill: str = ""  #: ``backup drill``
    optimize: str = ""  #: ``maintain optimize``
    vacuum: str = ""  #: ``maintain vacuum``; off by default, because it locks the tables that it rewrites
    cleanup: str = ""  #: ``sessions cleanup``
    status: str = ""  #: ``status``
    #: further jobs ``backup``, ``verify``, ``optimize`` or ``vacuum`` of single databases
    databases: dict[str, dict[Literal["backup", "verify", "optimize", "vacuum"], str]] = {}


class ReplicaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.replicas.DATABASE]``: a copy of a database on another server, which its server replicates."""

    url: str  #: the address of the replica
    max_lag: str = "5m"  #: reads are refused if the replica is further behind


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica with its resolved URL."""

    url: Url
    max_lag: timedelta


#: The value for a database without migrations, instead of a folder.
NO_MIGRATIONS = "none"

#: The sign in the addresses of a fleet that the name of an instance replaces.
PLACEHOLDER = "*"


def has_placeholder(url: Url) -> bool:
    """Whether the name of an instance is part of an address."""
    return PLACEHOLDER in url.path + url.options


class InstancesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.instances]``: the instances of a fleet, an app whose addresses contain ``*``."""

    url: str = ""  #: the database in which ``query`` runs
    query: str = ""  #: returns the names of the instances; default: the paths that match the address
    exclude: Sequence[
        str
    ] = ()  #: names and patterns (``test-*``) of instances that are not part of the fleet
    canaries: Sequence[str] = ()  #: the instances that ``migrate up`` migrates first
    jobs: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None  #: default for ``--jobs``


class AppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME]``: one deployed application. Paths are relative to the file."""

    profile: str  #: the name of a profile, or a path that ends in ``.toml``
    protected: bool = False  #: destructive commands require ``--confirm`` with the name of the app
    directory: str = ""  #: where the app is installed; default: the directory of the file
    env_file: str = ""  #: the app's env file; its variables take precedence over the environment
    pepper_file: str = ""  #: a file with the secret that the app appends to passwords
    #: the prefix of the app's tables; by default it is detected
    prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]{0,64}$")] | None = None
    #: the address of each database: a path, or a URL; ``${NAME}`` is a variable, ``*`` the name of an instance; a text is that of the main database
    databases: dict[str, str] | str = {}
    instances: InstancesConfig = InstancesConfig()  #: the instances of a fleet
    replicas: dict[str, ReplicaConfig] = {}  #: the replica of each database, for ``--replica``
    migrations: dict[str, str] = {}  #: the folder with the migrations of each database; ``none``: it has none
    backup: BackupConfig | None = None  #: where backups are stored, and how long
    embedder: Embedder | None = None  #: computes vectors for semantic search
    search: SearchConfig | None = None  #: external search indexes
    schedule: Schedule = Schedule()  #: when ``schedule cron`` runs its jobs


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``dbctl.toml``."""

    apps: dict[str, AppConfig] = {}  #: the deployed applications, by name


class App(msgspec.Struct, frozen=True, kw_only=True):
    """One configured app: all URLs and paths are resolved, no database is open."""

    name: str
    profile: str  #: a name, or the path of a profile file
    protected: bool
    databases: Mapping[str, Url]
    replicas: Mapping[str, Replica] = {}
    reads_replicas: bool = False  #: whether ``databases`` has the URLs of ``replicas``, which are only read
    migrations: Mapping[str, Path]
    unmigrated: Collection[str] = ()  #: databases that are configured without migrations
    backup: BackupConfig | None = None
    scratch: Url | None = None  #: a server for drills
    embedder: Embedder | None = None
    env_file: Path | None = None  #: the app's env file
    pepper_file: Path | None = None  #: the file with the secret that the app appends to passwords
    prefix: str | None = None  #: the prefix of the app's tables, if configured
    search: Path | None = None  #: the folder of external search indexes, if configured
    folder: Path  #: the base of relative paths
    directory: Path  #: where the app is installed
    schedule: Schedule = Schedule()
    instances: InstancesConfig = InstancesConfig()
    listing_url: Url | None = None  #: the database that lists the instances of a fleet
    fleet: str = ""  #: the fleet of which it is an instance

    @property
    def is_fleet(self) -> bool:
        """Whether it describes many instances: an address contains ``*``."""
        return any(map(has_placeholder, self.databases.values()))


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """All configured apps."""

    path: Path
    apps: Mapping[str, App]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line that select an app; empty: not passed."""

    config: str = ""
    app: str = ""
    profile: str = ""
    urls: Sequence[str] = ()
    configured: App | None = None  #: the app, if it was read from the configuration already
    replica: bool = False  #: read databases from their replicas
