"""The values of ``dbctl.toml``: apps, their backups, embedders, and schedules."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl.model import Compression
from dbctl.url import Url

#: The name of the app that --profile and --url describe without a configuration.
UNNAMED_APP = "app"

#: The profile of a database that --url alone describes: all that needs to know no app.
PLAIN = "plain"

#: How many backups a rule may keep.
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which backups stay: of each kind of time, the newest of so many that have any. Nothing said: no rule."""

    last: Count = 0  #: the newest ones, whatever their time
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    within: str = ""  #: all that are at most so much older than the newest: ``30d``


class Encrypt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup.encrypt]``: for whom backups are encrypted, always, and what opens them on this machine."""

    recipients: Sequence[str] = ()  #: ``age1…``, or the public keys of ssh
    recipients_file: str = ""  #: more of them, one a line
    passphrase_file: str = ""  #: for a passphrase in the place of recipients
    identity_file: str = ""  #: only what reads backups needs it


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup]``."""

    repository: str
    keep: Keep = Keep()
    max_age: str = ""  #: ``26h``: an older newest backup is overdue
    verify_within: str = ""  #: ``8d``: a backup that was not read whole for longer is unverified
    drill_within: str = (
        ""  #: ``32d``: a database of which no backup was restored on trial for longer is undrilled
    )
    format: str = ""  #: of the dumps of a server, where it knows several: ``custom``, ``plain``
    compress: Compression = "gzip"
    scratch: str = ""  #: the URL of a server that trial restores may use, in place of the app's own
    encrypt: Encrypt | None = None
    staging: str = ""  #: where on this machine files wait that go to, or come from, a store elsewhere, or are to be encrypted


#: How a vector of words is come by.
EmbedderKind: TypeAlias = Literal["gemini", "openai", "command", "local"]


class Embedder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[apps.NAME.embedder]``: what makes a vector of words, by the model that made those of the app.

    Kinds: ``gemini``, Google's service; ``openai``, every service that answers ``/embeddings`` as OpenAI's does;
    ``command``, a program that gets the words on standard input and writes a JSON array; ``local``, a package of
    Python beside dbctl.
    """

    kind: EmbedderKind
    model: str = ""
    url: str = ""  #: of another service than the usual one, with its version: ``https://host/v1``
    key_env: str = ""  #: the variable that holds the key; of the usual service its usual one
    key_file: str = ""  #: a file whose first line is the key
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = (
        None  #: asked of models that can do several
    )
    task: str = ""  #: gemini: what the vector is for, ``RETRIEVAL_QUERY``
    command: Sequence[str] = ()  #: the program and its words; no shell reads them
    package: Literal["", "fastembed", "sentence-transformers"] = ""
    timeout: str = "30s"  #: for everything, asking again included


class SearchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.search]``: where the files of search indexes are that a database cannot have itself."""

    folder: str  #: in place of the database's own, and of the user's for caches


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.schedule]``: when jobs run, as cron expressions; ``off`` leaves a job out, empty is its usual time."""

    search: str = ""
    backup: str = ""
    prune: str = ""
    verify: str = ""
    drill: str = ""
    optimize: str = ""
    vacuum: str = ""  #: usually off: it locks what it rewrites
    cleanup: str = ""
    status: str = ""
    #: further runs of ``backup``, ``verify``, ``optimize`` or ``vacuum`` for one database
    databases: dict[str, dict[Literal["backup", "verify", "optimize", "vacuum"], str]] = {}


#: In place of a folder of migrations: the database has none.
NO_MIGRATIONS = "none"


class AppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME]``: one deployed application. Paths are relative to the file."""

    profile: str
    protected: bool = False
    directory: str = ""  #: where the app is installed; else where the file is
    env_file: str = (
        ""  #: the app's own file of settings, whose variables count before those of the environment
    )
    databases: dict[str, str] = {}
    migrations: dict[str, str] = {}
    backup: BackupConfig | None = None
    embedder: Embedder | None = None
    search: SearchConfig | None = None
    schedule: Schedule = Schedule()


class App(msgspec.Struct, frozen=True, kw_only=True):
    """One app as configured: every address resolved, nothing opened yet."""

    name: str
    profile: str  #: a name, or the path of a profile file
    protected: bool
    databases: Mapping[str, Url]
    migrations: Mapping[str, Path]
    unmigrated: Collection[str] = ()  #: databases that have no migrations, as the configuration says
    backup: BackupConfig | None = None
    scratch: Url | None = None  #: a server for trial restores
    embedder: Embedder | None = None
    env_file: Path | None = None  #: the app's own file of settings
    search: Path | None = None  #: the folder of search indexes, where one is named
    folder: Path  #: what relative paths are relative to
    directory: Path  #: where the app is installed
    schedule: Schedule = Schedule()


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Every configured app."""

    path: Path | None
    apps: Mapping[str, App]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of the command line said about which app is meant; empty means not said."""

    config: str = ""
    app: str = ""
    profile: str = ""
    urls: Sequence[str] = ()
