"""The reference pages of profiles and of the configuration: every key with type, default, meaning, and an example."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dbctl.files import toml
from dbctl.profiles import loader
from tools import profiles as generate

MAX_EXAMPLE = 60  #: characters
_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean", "null": "none"}

#: Examples of keys that no built-in profile has, by section and key.
EXAMPLES: dict[tuple[str, str], object] = {
    ("Anonymise", "databases"): {"main": {"columns": {"users.email": "email"}}},
    ("Profile", "anonymise"): {"databases": {"main": {"columns": {"users.email": "email"}}}},
    ("DatabaseEntries", "columns"): {"users.email": "email", "*.ip": "ip"},
    ("ColumnEntry", "paths"): {"email.value": "email"},
    ("ColumnEntry", "keys"): {"*@*": "email"},
    ("ColumnEntry", "values"): {"first_name": "name", "wp_*": "keep"},
    ("PartEntry", "kind"): "login",
    ("PartEntry", "after"): "@",
    ("Database", "pragmas"): {"synchronous": "full"},
    ("Environment", "tls_option"): "sslmode=verify-full",
    ("Ledger", "new"): {"hostname": "dbctl", "batch": 1},
    ("Ledger", "rolled_back_at"): "rolled_back_at",
    ("Ledger", "started_at"): "started_at",
    ("RowOwner", "table"): "block_target",
    ("RowOwner", "key"): "bt_id",
    ("RowOwner", "user"): "bt_user",
    ("Users", "database"): "main",
    ("Profile", "undecided"): {"admin": ["accounts.flags may be a bit mask of roles"]},
    ("Profile", "proven"): {
        "sqlite": {
            "create-user": {
                "at": "2026-11-25",
                "ledger": "0042",
                "recordings": 1,
                "rows": 2,
                "digest": "5f1d7c84a3b2e690",
            }
        }
    },
    ("Proof", "at"): "2026-11-25",
    ("Proof", "ledger"): "0042",
    ("Proof", "recordings"): 1,
    ("Proof", "rows"): 2,
    ("Proof", "digest"): "5f1d7c84a3b2e690",
    ("Proof", "shown"): ["system values as string"],
    ("Password", "prefix_columns"): ["passwd_hash_algo", "salt"],
    ("Password", "accepts"): ["bcrypt", "phpass"],
    ("Password", "pepper"): True,
    ("Password", "normal_form"): "NFKC",
    ("Password", "hmac_key"): {
        "table": "keys",
        "column": "value",
        "only": {"name": "SECURITY_PASSWORD_SALT"},
    },
    ("Password", "also"): {"password_changed_at": ":now", "must_change_password": False},
    ("PasswordKey", "table"): "keys",
    ("PasswordKey", "column"): "value",
    ("PasswordKey", "only"): {"name": "SECURITY_PASSWORD_SALT"},
    ("Rule", "lowercase"): True,
    ("Rule", "values"): ["admin", "editor"],
    ("Users", "new"): {"locale": "en", "slug": "{username:slug}", "created_at": ":now"},
    ("Users", "create"): [{"table": "categories", "user": "user_id", "values": {"title": "All"}}],
    ("Users", "joined"): {"email": {"table": "email_addresses", "user": "user_id", "column": "address"}},
    ("JoinedField", "table"): "email_addresses",
    ("JoinedField", "column"): "address",
    ("JoinedField", "user"): "user_id",
    ("JoinedField", "through"): "account_id",
    ("JoinedField", "only"): {"is_default": True},
    ("JoinedField", "owner"): {"table": "mw_block_target", "key": "bt_id", "user": "bt_user"},
    ("Users", "only_app_creates"): "clients compute the keys of the vault",
    ("CompanionRow", "table"): "usermeta",
    ("CompanionRow", "user"): "user_id",
    ("CompanionRow", "values"): {"title": "All", "created_at": ":now"},
    ("CompanionRow", "rows"): [{"name": "nickname", "value": "{username}"}],
    ("CompanionRow", "same"): ["type"],
    ("SignInTable", "token"): "token_hash",
    ("SignInTable", "user"): "user_id",
    ("SignInTable", "payload"): {"column": "session_data", "codec": "django", "key": "_auth_user_id"},
    ("SignInTable", "only"): {"action": ["session", "autologin"]},
    ("SecondFactor", "name"): "totp",
    ("SecondFactor", "table"): "twofactor",
    ("SecondFactor", "user"): "user_id",
    ("SecondFactor", "owner"): {"table": "otp_static_staticdevice", "key": "id", "user": "user_id"},
    ("SecondFactor", "only"): {"action": "twofa_backup_code"},
    ("SecondFactor", "on_reset"): {"twofa_scheme": ":null", "twofa_totp_key": ":null"},
    ("SecondFactor", "confirmed"): {"mfaEnabled": True},
    ("SecondFactor", "secret"): "meta_value",
    ("SecondFactor", "required"): False,
    ("Payload", "column"): "session_data",
    ("Payload", "codec"): "django",
    ("Payload", "key"): "_auth_user_id",
    ("Users", "checked"): ["password", "active"],
    ("Users", "on_sign_out"): {"security_stamp": ":uuid4"},
    ("Sessions", "payload"): {"column": "sess", "codec": "json", "key": "passport.user"},
    ("Sessions", "lifetime"): "30d",
    ("UserRole", "labels"): {"true": "admin", "false": "user"},
    ("Rank", "name"): "superuser",
    ("Rank", "columns"): {"is_superuser": True, "is_staff": True},
    ("Rank", "match"): ["is_superuser"],
    ("Membership", "table"): "auth_user_groups",
    ("Membership", "user"): "user_id",
    ("Membership", "role"): "group_id",
    ("Membership", "where"): {"expires_at": ":null"},
    ("Membership", "new"): {"created_at": ":now"},
    ("RoleMetadata", "table"): "wp_usermeta",
    ("RoleMetadata", "user"): "user_id",
    ("RoleMetadata", "key"): "meta_key",
    ("RoleMetadata", "value"): "meta_value",
    ("RoleMetadata", "name"): "wp_capabilities",
    ("RoleMetadata", "format"): "php-map",
    ("RoleMetadata", "level_name"): "wp_user_level",
    ("RoleMetadata", "levels"): {"administrator": 10, "subscriber": 0},
    ("UserRole", "permissions"): {"admin": ["*"], "editor": ["posts.edit"]},
    ("NamePart", "column"): "content_type_id",
    ("NamePart", "table"): "django_content_type",
    ("NamePart", "key"): "id",
    ("NamePart", "name"): "app_label",
    ("UserLink", "table"): "auth_user_user_permissions",
    ("UserLink", "user"): "user_id",
    ("UserLink", "permission"): "permission_id",
    ("Permissions", "separator"): " on ",
    ("Roles", "codec"): "uuid4",
    ("BuiltIn", "names"): ["admin", "user"],
    ("Settings", "of"): {"table": "projects", "name": "title"},
    ("Settings", "stored"): "json",
    ("Settings", "excluded"): ["version"],
    ("SettingKey", "length"): [0, 120],
    ("SettingKey", "bytes"): 64,
    ("SettingKey", "values"): ["dark", "light"],
    ("SettingKey", "lowercase"): True,
    ("SettingKey", "type"): "boolean",
    ("SettingKey", "stored"): "yaml",
    ("SettingKey", "schema"): '{"minimum": 1}',
    ("SettingKey", "default"): True,
    ("SettingKey", "description"): "Days until a loan ends",
    ("Settings", "secret"): ["smtp.password", "*.api_key"],
    ("KeySource", "contains"): "extreme",
    ("KeySource", "order"): "position",
    ("SearchKey", "contains"): "extreme",
    ("SearchKey", "order"): "position",
    ("DetailVariant", "lists"): ["tags", "tagsStr"],
    ("Detail", "lists"): ["tags", "tagsStr"],
    ("Sessions", "key"): "session_id",
    ("Rebuild", "hint"): "Stop the app, then run: dbctl sessions rebuild-stats",
    ("KnownLogin", "hint"): "The app creates this account at each start: remove it from its configuration.",
    ("KnownSecret", "key"): "token_id",
    ("Retention", "last"): 3,
    ("Retention", "hourly"): 24,
    ("Retention", "daily"): 7,
    ("Retention", "weekly"): 5,
    ("Retention", "monthly"): 12,
    ("Retention", "yearly"): 3,
    ("Retention", "max_bytes"): "500G",
    ("Retention", "min_free"): "20G",
    ("Profile", "variants"): [{"name": "3.x", "needs": ["accounts.is_admin"], "remove": ["sessions[0]"]}],
    ("ProfileVariant", "name"): "3.x",
    ("ProfileVariant", "needs"): ["accounts.is_admin", "teams"],
    ("ProfileVariant", "changes"): {
        "users.role": {"column": "is_admin", "labels": {"true": "admin", "false": "user"}}
    },
    ("ProfileVariant", "remove"): ["users.fields.last_login_at", "sessions[0]"],
}
#: Examples of keys that several sections have.
COMMON_EXAMPLES: dict[str, object] = {
    "database": "main",
    "severity": "error",
    "hint": "Correct them in the app.",
}

#: Examples of the keys of the configuration.
CONFIGURATION_EXAMPLES: dict[tuple[str, str], object] = {
    ("AppConfig", "profile"): "wordpress",
    ("AppConfig", "protected"): True,
    ("AppConfig", "require"): "proven",
    ("AppConfig", "directory"): "/srv/blog",
    ("AppConfig", "env_file"): ".env",
    ("AppConfig", "pepper_file"): "secrets/pepper",
    ("AppConfig", "pepper_env"): "SHOP_PEPPER",
    ("AppConfig", "prefix"): "wp_",
    ("AppConfig", "databases"): {"main": "mysql://dbctl:${PASSWORD}@localhost/blog"},
    ("AppConfig", "migrations"): {"main": "db/migrations"},
    ("ReplicaConfig", "url"): "postgresql://dbctl@replica/blog",
    ("ReplicaConfig", "max_lag"): "5m",
    ("InstancesConfig", "url"): "postgresql://dbctl@localhost/postgres",
    ("InstancesConfig", "query"): "select name from tenants where active",
    ("InstancesConfig", "exclude"): ["test-*"],
    ("InstancesConfig", "canaries"): ["staging"],
    ("InstancesConfig", "jobs"): 4,
    ("BackupConfig", "repository"): "s3://backups/blog",
    ("BackupConfig", "max_age"): "26h",
    ("BackupConfig", "verify_within"): "8d",
    ("BackupConfig", "incremental"): True,
    ("BackupConfig", "full_every"): "14d",
    ("BackupConfig", "max_dependents"): 30,
    ("DatabaseBackupConfig", "max_age"): "7d",
    ("DatabaseBackupConfig", "max_log_age"): "15m",
    ("BackupConfig", "drill_within"): "32d",
    ("BackupConfig", "max_shrink"): 0.5,
    ("BackupConfig", "schema_only"): ["sessions", "log_*"],
    ("BackupConfig", "format"): "custom",
    ("BackupConfig", "compress"): "zstd",
    ("AppConfig", "via"): "ssh:bastion",
    ("DatabaseConfig", "url"): "postgresql://shop@127.0.0.1/shop",
    ("DatabaseConfig", "via"): "docker:shop-db",
    ("BackupConfig", "scratch"): "mysql://drill:${DRILL_PASSWORD}@scratch/",
    ("BackupConfig", "staging"): "/srv/staging",
    ("BackupConfig", "stream"): True,
    ("BackupConfig", "object_lock"): "30d",
    ("BackupConfig", "object_lock_mode"): "governance",
    ("Retention", "last"): 3,
    ("Retention", "hourly"): 24,
    ("Retention", "daily"): 14,
    ("Retention", "weekly"): 8,
    ("Retention", "monthly"): 12,
    ("Retention", "yearly"): 3,
    ("Retention", "within"): "30d",
    ("Retention", "max_bytes"): "500G",
    ("Retention", "min_free"): "20G",
    ("EncryptionConfig", "recipients"): ["age1…"],
    ("EncryptionConfig", "recipients_file"): "keys/recipients.txt",
    ("EncryptionConfig", "passphrase_file"): "keys/passphrase",
    ("EncryptionConfig", "passphrase_env"): "BACKUP_PASSPHRASE",
    ("EncryptionConfig", "identity_file"): "keys/identity.txt",
    ("SecretSource", "file"): "secrets/shop",
    ("SecretSource", "command"): ["pass", "show", "shop/database"],
    ("SecretSource", "timeout"): "10s",
    ("Embedder", "kind"): "openai",
    ("Embedder", "model"): "nomic-embed-text",
    ("Embedder", "url"): "http://localhost:11434/v1",
    ("Embedder", "key_env"): "EMBEDDER_KEY",
    ("Embedder", "key_file"): "keys/embedder",
    ("Embedder", "dimensions"): 768,
    ("Embedder", "task"): "RETRIEVAL_QUERY",
    ("Embedder", "command"): ["./embed", "--json"],
    ("Embedder", "package"): "fastembed",
    ("Embedder", "timeout"): "2m",
    ("SearchConfig", "folder"): "indexes",
    ("Recovery", "databases"): {"main": {"base": "/srv/pg/bases", "log": "/srv/pg/log"}},
    ("Source", "base"): "/srv/pg/bases",
    ("Source", "log"): "/srv/pg/log",
    ("Source", "pgbackrest"): "shop",
    ("Source", "pgbackrest_config"): "/etc/pgbackrest/pgbackrest.conf",
    ("Schedule", "search"): "30 1 * * *",
    ("Schedule", "backup"): "0 */6 * * *",
    ("Schedule", "every"): "15m",
    ("Schedule", "prune"): "off",
    ("Schedule", "verify"): "37 4 * * 0",
    ("Schedule", "drill"): "53 5 1 * *",
    ("Schedule", "optimize"): "off",
    ("Schedule", "vacuum"): "0 4 1 * *",
    ("Schedule", "cleanup"): "41 6 * * *",
    ("Schedule", "cleanup_dependents"): True,
    ("Schedule", "status"): "7 * * * *",
    ("Schedule", "notify"): "13 8 * * *",
    ("Schedule", "summary"): "19 10 * * 5",
    ("ConfigFile", "defaults"): {"backup": {"repository": "/srv/backups", "keep": {"daily": 14}}},
    ("ConfigFile", "journal"): {"keep": "400d"},
    ("ConfigFile", "audit"): {"required": True},
    ("AuditConfig", "required"): True,
    ("AuditConfig", "values"): False,
    ("AuditConfig", "max_rows"): 5000,
    ("AuditConfig", "anchor_command"): ["ssh", "anchors@log.example"],
    ("AuditConfig", "syslog"): True,
    ("JournalConfig", "folder"): "/var/lib/dbctl",
    ("JournalConfig", "keep"): "400d",
    ("JournalConfig", "max_runs"): 20_000,
    ("NotifyConfig", "ping"): {"backup create": "https://hc-ping.com/${PING_KEY}/blog-backup"},
    ("NotifyConfig", "on"): ["failed", "recovered"],
    ("NotifyConfig", "severity"): "warning",
    ("NotifyConfig", "repeat"): "1d",
    ("NtfyConfig", "url"): "https://ntfy.sh/${NTFY_TOPIC}",
    ("NtfyConfig", "token_env"): "NTFY_TOKEN",
    ("NtfyConfig", "token_file"): "secrets/ntfy",
    ("WebhookConfig", "url"): "https://example.org/dbctl",
    ("WebhookConfig", "secret_env"): "WEBHOOK_KEY",
    ("WebhookConfig", "secret_file"): "secrets/webhook",
    ("EmailConfig", "to"): ["ann@example.org"],
    ("EmailConfig", "sender"): "dbctl@example.org",
    ("EmailConfig", "host"): "mail.example.org",
    ("EmailConfig", "port"): 587,
    ("EmailConfig", "tls"): "implicit",
    ("EmailConfig", "user"): "dbctl",
    ("EmailConfig", "password_env"): "SMTP_PASSWORD",
    ("EmailConfig", "password_file"): "secrets/smtp",
    ("AppriseConfig", "urls"): ["${TELEGRAM_URL}"],
    ("Schedule", "databases"): {"main": {"backup": "0 * * * *"}},
    ("ActionHooks", "before"): ["scripts/check-mount", "/mnt/backups"],
    ("ActionHooks", "after"): ["rclone", "copy", "backups", "remote:shop"],
    ("ActionHooks", "failed"): ["scripts/alert"],
    ("ActionHooks", "finally"): ["umount", "/mnt/backups"],
    ("ActionHooks", "timeout"): "30m",
    ("MaintenanceModeConfig", "on"): ["docker", "compose", "stop", "web"],
    ("MaintenanceModeConfig", "off"): ["docker", "compose", "start", "web"],
    ("MaintenanceModeConfig", "actions"): ["restore"],
    ("MaintenanceModeConfig", "timeout"): "5m",
}

Schema = Mapping[str, Any]
#: An example value by section and key.
Examples = dict[tuple[str, str], object]


def profile_page() -> str:
    """Return a page with a table for each section of a profile."""
    schema = json.loads(generate.build_schema())
    lines = [
        "# Profile language\n",
        "Generated from `dbctl/profiles/model/`. [Write a profile](../how-to/write-a-profile.md) explains the sections step by step;",
        "[`profile.schema.json`](../../dbctl/profiles/profile.schema.json) is the JSON Schema for editors. A column or table with a",
        "trailing `?` is optional. Most examples are from built-in profiles.",
        *_render_sections(schema, collect_examples(schema)),
    ]
    return "\n".join(lines) + "\n"


def configuration_page() -> str:
    """Return a page with a table for each section of ``dbctl.toml``."""
    lines = [
        "# Configuration\n",
        "Generated from `dbctl/config/model.py`. dbctl reads the file of `--config` or `DBCTL_CONFIG`, otherwise the first of `./dbctl.toml`,",
        "the file of the user (`~/.config/dbctl/dbctl.toml` on Linux) and that of the system, and then the files `*.toml` of the folder `dbctl.d`",
        "next to it, sorted by name (`NAME.d` for a file `NAME.toml`). Each app and each secret is in one file. Paths are relative to the folder of",
        "`dbctl.toml`, in all files. `${NAME}` in an address or a path is a variable of the app's `env_file`, or a",
        "[secret or variable](../how-to/store-secrets.md).",
        "`dbctl config explain KEY` prints the meaning of a key, and `dbctl config schema` the JSON Schema for editors.",
        *_render_sections(json.loads(generate.build_config_schema()), CONFIGURATION_EXAMPLES),
    ]
    return "\n".join(lines) + "\n"


def _render_sections(schema: Schema, examples: Examples) -> Iterator[str]:
    """Yield the lines of a table for each section."""
    sections: Mapping[str, Schema] = schema["$defs"]
    places: dict[str, str] = {}
    _collect_places(sections, schema["$ref"].rpartition("/")[2], "", places)
    for name, place in places.items():
        section = sections[name]
        yield from [f"\n## {place}\n", _escape(section["description"]), ""]
        yield from ["| key | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
        for key, described in section["properties"].items():
            has_section = contains_section(described)
            default = "" if has_section else _format_value(described.get("default"))
            if key in section.get("required", ()):
                default = "required"
            example = "" if has_section else _format_value(examples.get((name, key)))
            description = described["description"]
            meaning = _escape(description[:1].upper() + description[1:])
            yield f"| `{key}` | {_format_type(described, places)} | {default} | {meaning} | {example} |"


def collect_examples(schema: Schema) -> Examples:
    """Return an example of each key, from the built-in profiles if one of them has the key."""
    sections, examples = schema["$defs"], Examples()
    for name in loader.names():
        values = toml.loads(toml.read_text(loader.path_of(name)))
        _collect_examples(sections, {"$ref": schema["$ref"]}, values, examples)
    keys = [(name, key) for name, section in sections.items() for key in section["properties"]]
    common = {(name, key): COMMON_EXAMPLES[key] for name, key in keys if key in COMMON_EXAMPLES}
    return common | EXAMPLES | examples


def contains_section(schema: Schema) -> bool:
    """Whether the value of a key is a section, or contains sections."""
    return any(_sections_of(schema))


def _collect_examples(
    sections: Mapping[str, Schema], schema: Schema, value: object, examples: Examples
) -> None:
    """Record the first value of each key below ``value``."""
    for option in schema.get("anyOf", [schema]):
        if "$ref" in option and isinstance(value, dict):
            name = option["$ref"].rpartition("/")[2]
            properties = sections[name]["properties"]
            for key in [key for key in properties if key in value]:
                examples.setdefault((name, key), value[key])
                _collect_examples(sections, properties[key], value[key], examples)
        elif isinstance(value, list) and isinstance(option.get("items"), dict):
            for item in value:
                _collect_examples(sections, option["items"], item, examples)
        elif isinstance(value, dict) and isinstance(option.get("additionalProperties"), dict):
            for item in value.values():
                _collect_examples(sections, option["additionalProperties"], item, examples)


def _collect_places(sections: Mapping[str, Schema], name: str, place: str, places: dict[str, str]) -> None:
    """Record the TOML header of each section, in the order of the keys."""
    places[name] = place or "Top level"
    for key, described in sections[name]["properties"].items():
        for inner, suffix, is_list in _sections_of(described):
            if inner not in places:
                path = f"{place.strip('`[]')}.{key}".removeprefix(".") + suffix
                _collect_places(sections, inner, f"`[[{path}]]`" if is_list else f"`[{path}]`", places)


def _sections_of(
    schema: Schema, suffix: str = "", *, is_list: bool = False
) -> Iterator[tuple[str, str, bool]]:
    """Yield the sections that a key contains, the end of their path, and whether they are a list."""
    for option in schema.get("anyOf", [schema]):
        if "$ref" in option:
            yield option["$ref"].rpartition("/")[2], suffix, is_list
        elif isinstance(option.get("items"), dict):
            yield from _sections_of(option["items"], suffix, is_list=True)
        elif isinstance(option.get("additionalProperties"), dict):
            yield from _sections_of(option["additionalProperties"], f"{suffix}.NAME", is_list=is_list)


def _format_type(schema: Schema, places: Mapping[str, str]) -> str:
    names = dict.fromkeys(_format_option(option, places) for option in _options_of(schema))
    return " or ".join(names) or "any value"


def _options_of(schema: Schema) -> Iterator[Schema]:
    """Yield the alternatives of a schema, except for null."""
    for option in schema.get("anyOf", ()):
        yield from _options_of(option)
    if "anyOf" not in schema and schema.get("type") != "null":
        yield schema


def _format_option(option: Schema, places: Mapping[str, str]) -> str:
    if "$ref" in option:
        place = places[option["$ref"].rpartition("/")[2]]
        anchor = "".join(letter for letter in place.lower() if letter.isalnum() or letter in "-_")
        return f"[section](#{anchor})"
    if "enum" in option:
        return " or ".join(f"`{json.dumps(value)}`" for value in option["enum"])
    if option.get("type") == "array":
        if "prefixItems" in option:
            return " and ".join(_format_type(item, places) for item in option["prefixItems"])
        return f"list of {_format_type(option.get('items', {}), places)}"
    if option.get("type") == "object":
        return f"table of {_format_type(option.get('additionalProperties', {}), places)}"
    return _TYPES.get(str(option.get("type")), "any value")


def _format_value(value: object) -> str:
    """Return a value in TOML, shortened; nothing for an empty value."""
    if value in (None, "", [], {}):
        return ""
    text = _write_toml(value)
    shortened = text if len(text) <= MAX_EXAMPLE else text[: MAX_EXAMPLE - 1] + "…"
    return f"`{_escape(shortened, code=True)}`"


def _write_toml(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_write_key(key)} = {_write_toml(item)}" for key, item in value.items()) + " }"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_write_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _write_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _escape(text: str, *, code: bool = False) -> str:
    text = text.replace("|", "\\|")
    return text.replace("`", "'") if code else text.replace("``", "`")
