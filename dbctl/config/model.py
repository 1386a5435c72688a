"""The values of ``dbctl.toml``: apps and their backups."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

from dbctl.model import Compression
from dbctl.units import is_duration, parse_size
from dbctl.url import Url

#: A section of an extension.
Section = TypeVar("Section", bound=msgspec.Struct)

#: The JSON Schema of ``ConfigFile``, which ``tools.profiles`` writes.
CONFIG_SCHEMA = Path(__file__).with_name("config.schema.json")

#: The name of the app that --profile and --url describe without a configuration.
UNNAMED_APP = "app"
#: The profile for --url without --profile.
PLAIN = "plain"

#: The value for no directory of state, instead of its path.
STATE_OFF = "off"

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
    within: str = ""  #: all backups that are at most this old: ``30d``
    max_bytes: str = ""  #: the oldest are deleted if all backups of the app are larger: ``500G``
    min_free: str = ""  #: the oldest are deleted if the file system has less free space: ``20G``

    def find_problems(self) -> Iterator[tuple[str, str]]:
        """Yield the keys with invalid values, with the reasons."""
        if self.within and not is_duration(self.within, may_be_zero=False):
            yield "within", f"{self.within!r} is not a duration; write 26h, 30d or 1y"
        for name, text in (("max_bytes", self.max_bytes), ("min_free", self.min_free)):
            try:
                _ = text and parse_size(text)
            except ValueError:
                yield name, f"{text!r} is not a size; write 500M, 20G or 2T"


class EncryptionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup.encrypt]``: the recipients or passphrase of encrypted backups, and the key that decrypts them."""

    recipients: Sequence[str] = ()  #: ``age1…``, or public ssh keys
    recipients_file: str = ""  #: a file with further recipients, one per line
    passphrase_file: str = ""  #: a file with a passphrase, instead of recipients
    passphrase_env: str = ""  #: the variable or secret with the passphrase, instead of a file
    identity_file: str = ""  #: only commands that read backups need it


class DatabaseBackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup.databases.DATABASE]``: limits for the backups of one database, instead of those of the app."""

    #: the backups with the database that ``backup prune`` retains, without ``max_bytes`` and ``min_free``
    keep: Retention = Retention()
    max_age: str = ""  #: ``7d``: the maximum age of its newest backup
    max_log_age: str = ""  #: ``15m``: the maximum age of the end of the log that ``backup log`` stored


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup]``: where backups are stored, and how long."""

    repository: str  #: a directory, ``sftp://HOST/PATH``, ``rclone:REMOTE:PATH``, or ``s3://BUCKET/PREFIX``
    keep: Retention = Retention()  #: the backups that ``backup prune`` retains
    max_age: str = ""  #: ``26h``: the maximum age of the newest backup
    databases: dict[str, DatabaseBackupConfig] = {}  #: the limits of single databases
    verify_within: str = ""  #: ``8d``: the maximum age of the last full verification of a backup
    drill_within: str = ""  #: ``32d``: the maximum age of the last drill of a database
    #: the share of the rows of a database that a backup may lack before ``backup create`` fails; 1: never
    max_shrink: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    format: str = ""  #: the dump format, if the server has several: ``custom``, ``plain``
    compress: Compression = "gzip"  #: the compression of database files and custom dumps
    #: databases are stored as differences from an earlier backup, by the program rdiff
    incremental: bool = False
    full_every: str = "30d"  #: the age of a backup from which it gets no further differences
    #: the number of differences from one backup
    max_dependents: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    #: names and patterns (``log_*``) of tables whose rows backups leave out, such as sessions and logs
    schema_only: Sequence[Annotated[str, msgspec.Meta(min_length=1)]] = ()
    scratch: str = ""  #: the URL of a server for drills, instead of the app's server
    encrypt: EncryptionConfig | None = None  #: backups are encrypted with age
    staging: str = ""  #: a local folder for files before an upload, after a download, and before encryption
    #: dumps of servers are compressed, encrypted and stored while they are written, without a local copy
    stream: bool = False
    object_lock: str = (
        ""  #: ``30d``: how long the server deletes no file of a new backup, in an S3 bucket with object lock
    )
    #: ``governance``: keys with the permission ``BypassGovernanceRetention`` can end such a lock; ``compliance``: none can
    object_lock_mode: Literal["compliance", "governance"] = "compliance"


class SearchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.search]``: the folder of external search indexes."""

    folder: str  #: instead of the folder of the database, or of the user's cache


#: The actions that may have hooks.
ActionName: TypeAlias = Literal["backup", "restore", "migrate", "cleanup"]


class ActionHooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.hooks.ACTION]``: programs with their arguments that run with an action, without a shell."""

    before: Sequence[str] = ()  #: before the action, which is refused if it fails
    after: Sequence[str] = ()  #: after the action succeeded
    failed: Sequence[str] = ()  #: after the action or another hook failed
    finally_: Sequence[str] = msgspec.field(default=(), name="finally")  #: at the end, in any case
    timeout: str = "10m"  #: for each program

    def list_programs(self) -> Mapping[str, Sequence[str]]:
        """Return the configured programs by the name of their key."""
        commands = {
            "before": self.before,
            "after": self.after,
            "failed": self.failed,
            "finally": self.finally_,
        }
        return {key: command for key, command in commands.items() if command}


class HooksConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.hooks]``: programs that run before and after actions."""

    backup: ActionHooks = ActionHooks()  #: ``backup create``
    restore: ActionHooks = ActionHooks()  #: ``restore apply`` and ``restore undo``
    migrate: ActionHooks = ActionHooks()  #: ``migrate up``, ``migrate down`` and ``migrate reset``
    cleanup: ActionHooks = ActionHooks()  #: ``sessions cleanup``


class MaintenanceModeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[apps.NAME.maintenance_mode]``: programs that stop the app during a restore or a migration, and start it again."""

    on: Sequence[str]  #: the program with its arguments that stops the app, or lets it refuse requests
    off: Sequence[str]  #: the program that ends that; it must succeed also if the app is running
    actions: Sequence[Literal["restore", "migrate"]] = ("restore", "migrate")  #: during which it is on
    timeout: str = "2m"  #: for each program


class DatabaseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address of a database that has further keys: ``main = { url = "…", via = "ssh:bastion" }``."""

    url: str  #: a path, or a URL
    via: str | None = None  #: the route to it, instead of that of the app; empty: directly


class ReplicaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.replicas.DATABASE]``: a copy of a database on another server, which its server replicates."""

    url: str  #: the address of the replica
    max_lag: str = "5m"  #: reads are refused if the replica is further behind


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica with its resolved URL."""

    url: Url
    max_lag: timedelta
    primary: Url | None = None  #: the URL of the database, if that of the replica replaces it


class InstancesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.instances]``: the instances of a fleet, an app whose addresses contain ``*``."""

    url: str = ""  #: the database in which ``query`` runs
    #: returns the names of the instances; default: the paths, or the databases of the server, that match the address
    query: str = ""
    #: names and patterns (``test-*``) of instances that are not part of the fleet
    exclude: Sequence[str] = ()
    canaries: Sequence[str] = ()  #: the instances that ``migrate up`` migrates first
    jobs: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None  #: default for ``--jobs``


#: The commands of scheduled jobs, whose results are sent.
JobCommand: TypeAlias = Literal[
    "backup copy",
    "backup create",
    "backup drill",
    "backup prune",
    "backup verify",
    "integrity check",
    "integrity cross-check",
    "maintain analyze",
    "maintain optimize",
    "maintain vacuum",
    "search index build",
    "sessions cleanup",
]


class AppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME]``: one deployed application. Paths are relative to the folder of ``dbctl.toml``."""

    profile: str  #: the name of a profile, or a path that ends in ``.toml``
    protected: bool = False  #: destructive commands require ``--confirm`` with the name of the app
    #: ``proven``: refuse the commands about users and settings that no replayed demonstration has proven (``profiles prove``)
    require: Literal["proven"] | None = None
    directory: str = ""  #: where the app is installed; default: the directory of the file
    env_file: str = ""  #: the app's env file; its variables take precedence over the environment
    pepper_file: str = ""  #: a file with the secret that the app appends to passwords
    pepper_env: str = ""  #: the variable or secret with it, instead of a file
    #: the prefix of the app's tables; by default it is detected
    prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]{0,64}$")] | None = None
    #: the address of each database: a path, a URL, or a table ``{ url, via }``; ``${NAME}`` is a variable, ``*`` the name of an instance; a
    #: text is that of the main database
    databases: dict[str, str | DatabaseConfig] | str = {}
    via: str = ""  #: the route to its databases and replicas: ``ssh:bastion``, ``docker:shop-db``, ``ssh:host docker:shop-db``
    instances: InstancesConfig = InstancesConfig()  #: the instances of a fleet
    replicas: dict[str, ReplicaConfig] = {}  #: the replica of each database, for ``--replica``
    migrations: dict[str, str] = {}  #: the folder with the migrations of each database; ``none``: it has none
    backup: BackupConfig | None = None  #: where backups are stored, and how long
    search: SearchConfig | None = None  #: external search indexes
    hooks: HooksConfig = HooksConfig()  #: programs that run before and after actions
    maintenance_mode: MaintenanceModeConfig | None = None  #: stops the app during restores and migrations


class SecretSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[secrets.NAME]``: where the secret is stored that ``${NAME}``, ``key_env`` or a variable of object storage names."""

    file: str = ""  #: a file with the secret
    #: a program and its arguments, run without a shell: the first line of its output is the secret
    command: Sequence[str] = ()
    timeout: str = "30s"  #: for the command


class JournalConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[journal]``: where the runs of commands are recorded, and how long."""

    folder: str = ""  #: instead of the user's directory for state; ``off``: runs are not recorded
    keep: str = "400d"  #: records of older runs are deleted
    max_runs: Annotated[int, msgspec.Meta(ge=100)] = 100_000  #: the runs whose records are retained


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[audit]``: the log of changes, next to the journal."""

    required: bool = False  #: whether to refuse changes that cannot be recorded
    values: bool = True  #: whether to record rows before and after a change; ``undo`` needs them
    #: the number of rows of an operation up to which rows are recorded, and not only counted
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    anchor_command: Sequence[str] = ()  #: a program, which reads the end of the log after each change
    syslog: bool = False  #: whether to write the end of the log to the system log after each change


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``dbctl.toml``, and of each file in ``dbctl.d``."""

    apps: dict[str, AppConfig] = {}  #: the deployed applications, by name
    #: sections of all apps, such as ``[defaults.backup]``: a key of an app replaces its default, tables are merged
    defaults: dict[str, dict[str, Any]] = {}
    secrets: dict[str, SecretSource] = {}  #: where secrets are stored, by the names of their variables
    journal: JournalConfig = JournalConfig()  #: the records of runs
    audit: AuditConfig = AuditConfig()  #: the log of changes


class App(msgspec.Struct, frozen=True, kw_only=True):
    """One configured app: all URLs and paths are resolved, no database is open."""

    name: str
    profile: str  #: a name, or the path of a profile file
    protected: bool
    require: Literal["proven"] | None = None  #: whether commands about users and settings must be proven
    databases: Mapping[str, Url]
    replicas: Mapping[str, Replica] = {}
    reads_replicas: bool = False  #: whether ``databases`` has the URLs of ``replicas``, which are only read
    migrations: Mapping[str, Path]
    unmigrated: Collection[str] = ()  #: databases that are configured without migrations
    backup: BackupConfig | None = None
    scratch: Url | None = None  #: a server for drills
    env_file: Path | None = None  #: the app's env file
    pepper_file: Path | None = None  #: the file with the secret that the app appends to passwords
    pepper_env: str = ""  #: the variable or secret with it
    prefix: str | None = None  #: the prefix of the app's tables, if configured
    search: Path | None = None  #: the folder of external search indexes, if configured
    folder: Path  #: the base of relative paths
    directory: Path  #: where the app is installed
    hooks: Mapping[ActionName, ActionHooks] = {}
    maintenance_mode: MaintenanceModeConfig | None = None
    state: str = ""  #: the folder of the journal, if configured
    instances: InstancesConfig = InstancesConfig()
    listing_url: Url | None = None  #: the database that lists the instances of a fleet
    fleet: str = ""  #: the fleet of which it is an instance
    #: those that are configured, of installed extensions
    extension_sections: Mapping[str, msgspec.Struct] = {}

    @property
    def backup_settings(self) -> BackupConfig:
        """How backups are created; the defaults with an empty repository if that is not configured, but an option."""
        return self.backup or BackupConfig(repository="")

    def extension_section(self, name: str, kind: type[Section]) -> Section | None:
        """Return the section of an extension; None: it is not configured."""
        section = self.extension_sections.get(name)
        return section if isinstance(section, kind) else None

    @property
    def is_fleet(self) -> bool:
        """Whether it describes many instances: an address contains ``*``."""
        return any(url.has_placeholder for url in self.databases.values())


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The configured apps."""

    path: Path
    apps: Mapping[str, App]  #: those that were resolved
    files: Mapping[str, Path]  #: the file of each configured app
