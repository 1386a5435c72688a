"""Failures of what a person gave: words, values, names, configuration, profile, and confirmation."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class UsageError(DbctlError):
    code, exit_status = "usage", Exit.USAGE
    sentence, remedy = "{detail}", "--help lists the arguments and options of a command."


class ValueInvalidError(DbctlError):
    code, exit_status = "value-invalid", Exit.USAGE
    sentence, remedy = "{what} {value} is not acceptable: {reason}", "Nothing was changed."


class OwnCommandError(DbctlError):
    code, exit_status = "own-command", Exit.USAGE
    sentence, remedy = "{what} has rules of its own, which this would pass by", "dbctl {command} keeps them."


class ConfigMissingError(DbctlError):
    code, exit_status = "config-missing", Exit.USAGE
    sentence = "no configuration was found ({looked})"
    remedy = "dbctl init PROFILE DIR writes one; or give --profile NAME and --url DATABASE=PATH, or --url alone for what needs to know no app."


class ConfigInvalidError(DbctlError):
    code, exit_status = "config-invalid", Exit.USAGE
    sentence = "{file}, line {line}, {key}: {reason}"
    remedy = "dbctl apps check looks over the whole configuration."


class AppAmbiguousError(DbctlError):
    code, exit_status = "app-ambiguous", Exit.USAGE
    sentence, remedy = "several apps are configured ({names})", "Say which one: --app NAME, or DBCTL_APP."


class AppMissingError(DbctlError):
    code, exit_status = "app-missing", Exit.NOT_FOUND
    sentence, remedy = "no app {name!r} in {file}", "It knows: {names}."


class DatabaseUnknownError(DbctlError):
    code, exit_status = "database-unknown", Exit.NOT_FOUND
    sentence, remedy = "{app} has no database {name!r}", "Its databases: {names}."


class DatabaseUnsetError(DbctlError):
    code, exit_status = "database-unset", Exit.USAGE
    sentence = "{app} does not say where its database {name!r} is"
    remedy = "Add it under [apps.{app}.databases], or give --url {name}=PATH."


class ProfileMissingError(DbctlError):
    code, exit_status = "profile-missing", Exit.NOT_FOUND
    sentence, remedy = "no profile {name!r}", "Known: {names}; or give the path of a profile file (.toml)."


class ProfileInvalidError(DbctlError):
    code, exit_status = "profile-invalid", Exit.USAGE
    sentence = "{file}, line {line}, {key}: {reason}"
    remedy = "dbctl apps check {file} explains every mistake of a profile."


class UrlInvalidError(DbctlError):
    code, exit_status = "url-invalid", Exit.USAGE
    sentence = "the database URL is not understood: {reason}"
    remedy = "Write a path, sqlite:///PATH, or SCHEME://USER:PASSWORD@HOST:PORT/NAME with /, #, ? and @ in a password percent-encoded."


class NotSupportedError(DbctlError):
    code, exit_status = "not-supported", Exit.USAGE
    sentence, remedy = "{what} is not possible with {by}", "{instead}"


class DriverMissingError(DbctlError):
    code, exit_status = "driver-missing", Exit.USAGE
    sentence = "opening {target} wants {driver}, which is not installed ({reason})"
    remedy = "pip install 'dbctl[{extra}]' installs it; with pipx: pipx inject dbctl '{driver}'."


class AbilityMissingError(DbctlError):
    code, exit_status = "ability-missing", Exit.USAGE
    sentence = "{app} ({profile}) has no {ability}"
    remedy = "{instead} Profiles that have them: {others}."

    def __init__(self, *, instead: str = "", **facts: object) -> None:
        super().__init__(instead=instead, **facts)
        self.hint = self.hint.lstrip()


class SchemaLacksError(DbctlError):
    code, exit_status = "schema-lacks", Exit.USAGE
    sentence = "{target} lacks {what}, which {purpose} needs"
    remedy = "dbctl apps check compares the profile with the live database; where the app has migrations, some may be pending (dbctl migrate status)."


class WrongAppError(DbctlError):
    code, exit_status = "wrong-app", Exit.USAGE
    sentence = "{target} is a database, but not one of {profile}: it lacks {what}"
    remedy = "{instead}"


class UserMissingError(DbctlError):
    code, exit_status = "user-missing", Exit.NOT_FOUND
    sentence, remedy = "no user {login!r} in {target}", "dbctl users list shows them."


class RoleMissingError(DbctlError):
    code, exit_status = "role-missing", Exit.NOT_FOUND
    sentence, remedy = "no role {name!r} in {target}", "Known: {names}."


class SearchMissingError(DbctlError):
    code, exit_status = "search-missing", Exit.NOT_FOUND
    sentence, remedy = "{app} has no search {name!r}", "It has: {names}."


class ReportMissingError(DbctlError):
    code, exit_status = "report-missing", Exit.NOT_FOUND
    sentence, remedy = "{app} has no report {name!r}", "It has: {names}."


class RuleMissingError(DbctlError):
    code, exit_status = "rule-missing", Exit.NOT_FOUND
    sentence, remedy = "{app} has no cleanup rule {name!r}", "It has: {names}."


class NobodyMeantError(DbctlError):
    code, exit_status = "nobody-meant", Exit.NOT_FOUND
    sentence, remedy = "no {what} {id!r} in {places}", "Ids are compared letter by letter."


class SessionMissingError(DbctlError):
    code, exit_status = "session-missing", Exit.NOT_FOUND
    sentence, remedy = "no session {pids} at {target}", "dbctl stats connections shows them."


class AmbiguousLoginError(DbctlError):
    code, exit_status = "login-ambiguous", Exit.REFUSED
    sentence, remedy = (
        "{login!r} fits several users of {target} (ids {ids})",
        "Nothing was changed. Say which by --id.",
    )


class KeyMissingError(DbctlError):
    code, exit_status = "key-missing", Exit.USAGE
    sentence = "{what} is encrypted, and {reason}"
    remedy = (
        "Nothing was changed. --identity FILE names an identity of age, or a key of ssh, --passphrase-file FILE a file with"
        " the passphrase; identity_file under [apps.NAME.backup.encrypt] says so for good."
    )


class ConfirmationMissingError(DbctlError):
    code, exit_status = "confirmation-missing", Exit.REFUSED
    sentence, remedy = "{title}: this wants an answer, and there is no terminal to ask on", "{instead}"


class ConfirmationWrongError(DbctlError):
    code, exit_status = "confirmation-wrong", Exit.REFUSED
    sentence, remedy = "--confirm says {given!r}, but the app is {app!r}", "Nothing was changed."


class DeclinedError(DbctlError):
    code, exit_status = "declined", Exit.REFUSED
    sentence, remedy = "{title}: not done", "Nothing was changed."


class PlanChangedError(DbctlError):
    code, exit_status = "plan-changed", Exit.REFUSED
    sentence = "{target} changed between the plan and its execution"
    remedy = "Nothing was changed. Run it again and look at the new plan."


class PasswordWrongError(DbctlError):
    code, exit_status = "password-wrong", Exit.FAILED
    sentence, remedy = "the password of {login!r} is another one", "dbctl users set-password sets a new one."
