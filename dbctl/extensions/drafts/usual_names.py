"""Names by which apps usually call tables and columns of users, sign-ins, settings and migrations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dbctl.services.app.evidence import references
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.evidence.references import normalize, shorten

#: Names of columns for each field of a user, the most usual first; the prefix of all columns of a table is ignored.
FIELDS: Mapping[str, Sequence[str]] = {
    "username": ["username", "user_name", "login", "login_name", "uname", "user_login", "nick", "nickname",
                 "handle", "account_name", "name"],
    "email": ["email", "mail", "email_address", "e_mail", "mail_address", "email_addr"],
    "name": ["display_name", "displayname", "full_name", "fullname", "real_name", "realname", "nicename", "name"],
    "active": ["active", "is_active", "enabled", "is_enabled", "activated"],
    "created_at": ["created_at", "created_on", "created", "created_time", "create_time", "creation_date", "date_created",
                   "creation_ts", "date_joined", "joined_at", "joined", "registered_at", "registered", "registration",
                   "inserted_at", "since"],
    "updated_at": ["updated_at", "updated_on", "updated", "changed_on", "changed_at", "modified_at", "modified", "update_time",
                   "last_modified"],
    "last_login_at": ["last_login_at", "last_login", "last_login_on", "lastlogin", "last_sign_in_at", "current_sign_in_at",
                      "last_seen_at", "last_seen", "last_active_at", "last_access"],
}  # fmt: skip
#: Columns that identify users who sign in.
LOGINS = ("username", "user_name", "login", "login_name", "uname", "user_login", *FIELDS["email"])
#: Columns with the kind of a row, in a table of several kinds.
KIND = re.compile(r"^((user|account|principal)_?)?(type|kind)$")
#: Logins of accounts that an app makes for itself.
SYSTEM_LOGIN = re.compile(
    r"anonymous|(^|[ _-])(system|nobody|ghost|deleted|guest|unknown|script|daemon|default)([ _-]?user)?($|[ _@-])",
    re.IGNORECASE,
)
TIME_FIELDS = ("created_at", "updated_at", "last_login_at")
#: Further columns of users that a profile shows under their own names.
PERSONAL = re.compile(r"^(first_?name|last_?name|given_name|family_name|phone|locale|language|time_?zone)$")
#: Those of them that an app may set for each user.
PREFERENCE = re.compile(r"^(locale|language|time_?zone)$")

PASSWORD = re.compile(
    r"^(user_?|hashed_|encrypted_|crypted_)?(password|passwd|pass|pwd|pw)(_?(hash|hashed|digest|bcrypt))?$|^(hash|secret_?hash)$"
)
#: Keys of settings with a secret that an app adds to each password.
PEPPER = re.compile(r"password_(hmac_)?(salt|pepper|key|secret)|(^|_)pepper($|_)")
SALT = re.compile(r"^(password_)?salt$")
USERS_TABLE = re.compile(r"^(\w+_)?(users?|accounts?|members?|customers?|people|persons?|logins?)$")
#: Words of tables that belong to users but are not users.
NOT_USERS = re.compile(
    r"(session|token|log|histor|setting|option|meta|role|group|permission|register|archive|key|device|preference|invit|agent"
    r"|stat|activit|avatar|notification|audit|request|block|queue)"
)
#: Columns that may show that a user cannot sign in, in a form that the name does not define.
INACTIVE = re.compile(rf"{references.INACTIVE_TIME.pattern}|^(status|state|user_status|account_status)$")
ROLE_OF_PAIR = re.compile(r"^(role|group|gid|r_?id|g_?id)(_?(id|name|slug|uuid))?$")
#: A boolean column with this name shows who is an admin, if it is true for some; other names may mean less, or more.
CLEAR_ADMIN_FLAG = re.compile(r"^(is_|user_)?(admin|administrator)(_flag)?$")
_ADMIN_ROLES = ("admin", "administrator", "superadmin", "superadministrator", "superuser", "owner", "root", "sysadmin",
                "globalowner", "globaladmin")  # fmt: skip
ROLES_TABLE = re.compile(r"^(\w+_)?(roles?|groups?)$")
PERMISSIONS_TABLE = re.compile(r"^(\w+_)?(permissions?|privileges?|scopes?|capabilit(y|ies))$")
LABEL = ("name", "slug", "title", "label", "code", "codename", "display_name")
KEY_IN_NAME = re.compile(r"(?:^|[^a-z])users?[_:/-](\d+)(?!\d)", re.IGNORECASE)
#: Words of columns with integers that are users; other numbers are often keys by chance.
_USER_WORDS = frozenset(["user", "owner", "author", "creator", "assignee", "sender", "recipient", "receiver", "admin", "member",
                        "editor", "reviewer", "approver", "manager", "actor", "account", "by"])  # fmt: skip
SESSIONS_TABLE = re.compile(
    r"session|(access|refresh|auth|login|remember|personal_access|persistent)_?tokens?|authtoken|logins?$|^tokens?$|_tokens?$"
)
#: Tables with keys of programs: a new password does not end them in every app.
KEYS_TABLE = re.compile(r"api_?(token|key)s?|access_keys?|personal_access")
#: Columns of keys that a user names, or limits: no sign-ins.
KEY_COLUMNS = ("name", "label", "description", "title", "comment", "scope", "scopes", "abilities",
               "permissions")  # fmt: skip
TOKEN = re.compile(
    r"^((access|refresh|session|auth|remember|login|api)_?)?(token|key|key_hash|token_hash|hash|secret_?hash)$|^session_id$|^sid$|^id$"
)
#: Parts of the names of sessions that are no sign-ins: visits, plays, chats.
NOT_SIGN_IN = re.compile(r"visit|play|chat|game|replay|builder|activity_log|reset|verif|confirm|invit|valid")
#: Columns with the data of a session, and the paths in it that usually lead to the user.
PAYLOAD = re.compile(r"^(session_?data|session_?value|sess|state|value)$")
PAYLOAD_USER = ("_auth_user_id", "user_id", "userId", "uid", "passport.user", "user.id", "user")
EXPIRES = ("expires_at", "expires", "expire_date", "expiry", "expires_on", "expiration", "expire", "expire_at", "expired_at",
           "valid_until", "valid_until_ms", "expiry_ts", "ttl_at")  # fmt: skip
REVOKED = ("revoked", "is_revoked")
ENDED = ("ended_at", "end", "end_time", "ended", "closed_at", "revoked_at", "logout_at", "logged_out_at",
         "finished_at")  # fmt: skip
SEEN = ("last_seen_at", "last_seen", "last_used_at", "last_activity", "last_active_at", "last_accessed_at",
        "seen_at", "updated_at")  # fmt: skip
#: Columns with the last use of a row; a change of the row is none.
USED = (*SEEN[:-1], "last_used")

_FACTOR = r"(totp|otp|mfa|two_?fa(ctor)?(_auth(entication)?)?|two_?factor(_auth(entication)?)?|2fa|tfa|google2fa|google_auth(enticator)?)"
#: Columns of users with a secret or codes of a second factor, and what goes with them.
FACTOR_SECRET = re.compile(
    rf"^{_FACTOR}_?(totp_|otp_)?(secret|key|seed)(_key)?$|^({_FACTOR}_)?(backup|recovery)_?codes?$"
    rf"|^{_FACTOR}_(backup|recovery)_?codes?$|^{_FACTOR}_(confirmed|verified|enrolled)_at$|^{_FACTOR}_last_\w+$"
)
#: Columns that are true for users whom the app asks for a second factor.
FACTOR_FLAG = re.compile(
    rf"^(is_|has_)?{_FACTOR}_?(enabled|active|activated|confirmed|verified|status|required_for_login)$"
)
FACTOR_TABLE = re.compile(
    r"totp|(^|_)otp|mfa|two_?factor|2fa|webauthn|passkey|u2f|fido|security_keys?$|authenticators?$|(backup|recovery)_?codes?$"
)
RECOVERY_CODES, OTHER_FACTOR = "recovery-codes", "totp"
#: By a part of the name of a table, the name of a second factor; the first that occurs is used.
_FACTOR_NAMES = {
    r"backup|recover|static": RECOVERY_CODES,
    r"webauthn|passkey|credential|u2f|fido|key$|keys$": "webauthn",
    r"e?mail": "email",
    r"sms|phone": "sms",
    r"trusted|remember": "trusted-devices",
}

SETTINGS_TABLE = re.compile(
    r"(^|_)(app_?)?(settings?|options?|config(s|urations?)?|app_?config|preferences|system_metadata|parameters?|registry|variables?|properties)$"
)
SETTING_KEY = ("key", "name", "option_name", "config_key", "configkey", "setting_key", "setting", "var", "param", "property",
               "setting_name", "knob", "id")  # fmt: skip
SETTING_VALUE = ("value", "option_value", "config_value", "configvalue", "setting_value", "val", "content")
SETTING_TYPE = ("type", "value_type", "data_type", "kind", "setting_type")

#: Rows that have no meaning without their user, and are deleted with the user.
PERSONAL_ROWS = re.compile(
    r"session|token|key|preference|setting|option|meta|group|role|permission|polic|device|otp|totp|mfa|twofactor|2fa|webauthn"
    r"|passkey|oauth|identit|notification|favou?rite|favstar|star|watch|subscri|follow|like|bookmark|profile|propert|attribute"
    r"|threepid|push|credential|bot_password|recover|backup_?code|login|ui_state|dashboard_view"
)
#: Keys of rows with the version of the schema, in a table of settings.
_VERSION_KEY = re.compile(
    r"^((db|database|schema|migrations?)_?)?version$|^(applied_)?migrations?$|^database_patched_files$"
)
#: Tables that record migrations: with the usual names of runners, and a prefix or suffix of the app.
LEDGER_TABLE = re.compile(
    r"(^|_)migrations?(_history|_versions?)?($|_)|(^|_)(alembic|schema|db|flyway_schema|refinery_schema)_(version|history)($|_)|^updatelog$"
)
LEDGER_VERSION = ("version", "version_num", "version_id")
LEDGER_NAME = ("name", "migration", "migration_id", "migration_name", "filename", "file_name", "script", "description",
               "title")  # fmt: skip
LEDGER_TIME = ("applied_at", "applied", "applied_on", "executed_at", "installed_on", "run_on", "migration_time", "time",
               "timestamp", "created_at", "upgraded")  # fmt: skip
TIME_NAME = re.compile(
    r"(^|_)(at|on|ts|date|time|datetime|timestamp|created|updated|modified|changed|expires?|expiry|expiration|joined|since"
    r"|registered|start(ed)?|end(ed)?|applied|last_(login|seen|activity|used|check))(_ms)?$"
)
#: Tables in which an app records what its users do.
LOG_TABLE = re.compile(
    r"(^|_)(logs?|log_?entr(y|ies)|audits?|audit_?trail|histor(y|ies)|activit(y|ies)|events?|journal|revisions?)$|^actions$"
)
#: Columns with the user who wrote a row; of the second form those with keys.
_BY = re.compile(r"(^|_)by(_|$)|^(creator|editor|author)$")
_WRITER = re.compile(
    r"^(created|updated|modified|changed|added|invited|creator|editor|author)(_(user|admin))?(_(id|fk))?$"
)
#: Tables in which an app records what happens, also without an action, and what it refuses.
EVENT_TABLE = re.compile(
    r"(^|_)(logs?|logentry|audits?|history|events?|activity|activities|attempts?|notifications?)($|_)"
)
TITLE = ("title", "name", "subject", "label", "summary", "headline", "display_name")
BODY = ("description", "content", "body", "text", "excerpt", "notes", "note", "comment", "message", "abstract")  # fmt: skip


def match_tables(evidence: Evidence, pattern: re.Pattern[str]) -> list[TableEvidence]:
    """Return the tables, but not views, whose name matches."""
    return [table for table in evidence.base_tables() if pattern.search(normalize(table.name))]


def find_names(table: TableEvidence, names: Sequence[str]) -> list[str]:
    """Return the columns that have one of ``names``, in the order of ``names``; see ``shorten``."""
    by_name: dict[str, list[str]] = {}
    for column in table.columns:
        for form in dict.fromkeys((normalize(column), shorten(table, column))):
            by_name.setdefault(form, []).append(column)
    return list(dict.fromkeys(column for name in names for column in by_name.get(name, ())))


def find_name(table: TableEvidence, names: Sequence[str]) -> str:
    """Return the first of these columns, or an empty text."""
    return next(iter(find_names(table, names)), "")


def is_log(table: str) -> bool:
    """Return whether a table is named after what users do."""
    return bool(LOG_TABLE.search(normalize(table)))


def find_user_word(column: str) -> str:
    """Return the last word of a column, other than that of a key, if it is one of users; empty: it is not."""
    words = [word for word in normalize(column).split("_") if word not in ("id", "key", "uuid", "name")]
    return words[-1] if words and words[-1] in _USER_WORDS else ""


def is_actor(table: TableEvidence, column: str) -> bool:
    """Return whether a column is named after the user who wrote a row."""
    name = normalize(column)
    has_key = table.target(column) is not None or name.endswith("id")
    return bool(_BY.search(name) or (has_key and _WRITER.search(name)))


def is_admin_role(name: str) -> bool:
    """Return whether a role is named after admins, and nothing else."""
    return normalize(name).replace("_", "") in _ADMIN_ROLES


def is_version_key(key: str) -> bool:
    """Return whether a key of a setting is that of the version of the schema, which migrations write."""
    return bool(_VERSION_KEY.search(normalize(key)))


def name_second_factor(table: str) -> str:
    """Return the name of the second factor whose rows a table has."""
    name = normalize(table)
    return next((kind for pattern, kind in _FACTOR_NAMES.items() if re.search(pattern, name)), OTHER_FACTOR)
