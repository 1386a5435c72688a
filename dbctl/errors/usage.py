"""Failures of user input: arguments, values, names, configuration, profile, and confirmation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbctl.errors.base import DbctlError, Exit


class UsageError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{detail}", "{hint}"
    default_hint = "List the arguments and options of a command with --help."


class FormatNotSupportedError(DbctlError, status=Exit.USAGE):
    sentence = "{command} returns no findings, so -o {format} is not possible"
    remedy = "Use another format: table, json, jsonl, csv, tsv, markdown, html."


class TemplateInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "--template: {reason}", "{help}"


class ValueInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{name} {value} is invalid: {reason}", "Nothing was changed."


class UseDedicatedCommandError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{operation} requires a dedicated command", "{hint}"


class ConfigMissingError(DbctlError, status=Exit.USAGE):
    sentence = "no configuration found ({reason})"
    remedy = "Pass --profile NAME and --url DATABASE=PATH, or create one with: `init DIR`; or try a sample with: `demo flashpoint-web DIR`"


class ConfigInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "{file}, line {line}, {key}: {reason}"
    remedy = "List all errors of the configuration with: `config validate`"


class ConfigUntrustedError(DbctlError, status=Exit.REFUSED):
    sentence = "{file} defines commands that root would run, but other users may write {place}"
    remedy = "Nothing was run. Run: chown root {quoted} && chmod go-w {quoted}"


class ConfigChangedError(DbctlError, status=Exit.REFUSED):
    sentence = "another process changed {file} while it was edited"
    remedy = "It was not replaced. Your text is in {rejected}."


class EditorFailedError(DbctlError, status=Exit.FAILED):
    sentence = "{editor}: {reason}"
    remedy = "Nothing was changed. Set VISUAL or EDITOR to a command that waits until the file is closed, such as EDITOR='code --wait'."


class ConfigKeyMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "the configuration has no key {name}"
    remedy = "List all keys with: `config explain`"


class HelpTopicMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no help about {name!r}", "Topics: {names}. List the commands with: `help`"


class AppAmbiguousError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "several apps are configured ({names})", "Select one with --app NAME or DBCTL_APP."


class AppMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no app {name!r} in {file}", "Configured apps: {names}."


class FleetSelectedError(DbctlError, status=Exit.USAGE):
    sentence = "{app} is a fleet, and this command works on one instance"
    remedy = "Select an instance with --app {app}/NAME; list them with: `apps instances`"


class FleetRequiredError(DbctlError, status=Exit.USAGE):
    sentence = "{option} requires a fleet, but {app} is one app"
    remedy = "A fleet is an app with * in the address of a database."


class DatabaseUnknownError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no database {name!r}", "Databases: {names}."


class DatabaseNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no URL is configured for database {name!r} of {app}"
    remedy = "Add it under [apps.{app}.databases], or pass --url {name}=PATH."


class AmbiguousPrefixError(DbctlError, status=Exit.USAGE, code="prefix-ambiguous"):
    sentence = "the main database of {app} has its tables with several prefixes: {prefixes}"
    remedy = "Select a prefix in the configuration: prefix = ... under [apps.{app}]."


class ProfileMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no profile {name!r}", "Profiles: {names}; or pass the path of a profile file (.toml)."


class ProfileContradictionError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the profile contradicts the data: {reason} ({file}, line {line}, {key})"
    remedy = "Nothing was changed. {remedy} List all contradictions with: `apps check`"


class ProfileInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "{file}, line {line}, {key}: {reason}"
    remedy = "List all problems of the profile with: `apps check {file}`"


class UrlInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "invalid database URL: {reason}"
    remedy = "Write a path, sqlite:///PATH, or SCHEME://USER:PASSWORD@HOST:PORT/NAME; percent-encode /, #, ? and @ in a password."


class RouteInvalidError(UrlInvalidError):
    sentence = "invalid route: {reason}"
    remedy = (
        "A route is ssh:HOST, docker:CONTAINER, or ssh:HOST docker:CONTAINER. In an address, + joins its parts, %40 stands for @,"
        " and an IPv6 address is in brackets: ?via=ssh:USER%40HOST+docker:CONTAINER"
    )


class NotSupportedError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{feature} is not supported by {subject}", "{hint}"


class KeyNotReturnedError(NotSupportedError):
    """The row was inserted; only the value that the database generated for it is not known."""


class ExtensionInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "the extension {extension} of {distribution} cannot be used: {reason}"
    remedy = "Update or remove it with pip; without it, the commands of dbctl work as before."


class DriverMissingError(DbctlError, status=Exit.USAGE):
    sentence = "{target} requires {driver}, which cannot be loaded ({reason})"
    remedy = "Install it with pip install 'dbctl[{extra}]', or pipx inject dbctl '{driver}'."


@contextmanager
def require_driver(target: str, *, driver: str, extra: str) -> Iterator[None]:
    """Translate a failed import of ``driver`` into an error with the ``extra`` of dbctl that installs it.

    Raises:
        DriverMissingError: the import failed.
    """
    try:
        yield
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise DriverMissingError(target=target, driver=driver, extra=extra, reason=reason) from error


class FeatureMissingError(DbctlError, status=Exit.USAGE):
    sentence = "{app} ({profile}) has no {feature}"
    remedy = "{hint}Profiles with it: {profiles}."


class SchemaMismatchError(DbctlError, status=Exit.USAGE):
    sentence = "{target} lacks {missing}, required for {purpose}"
    remedy = "Compare profile and database with: `apps check`; list pending migrations with: `migrate status`"


class WrongAppError(DbctlError, status=Exit.USAGE):
    sentence = "{target} is not a database of {profile}: it lacks {missing}"
    remedy = "{hint}"


class UserMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no user {login!r} in {target}", "List users with: `users list`"
    misspelled = "login"


class RoleMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no role {name!r} in {target}", "Roles: {names}."


class SearchMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no search {name!r}", "Searches: {names}."


class ReportMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no report {name!r}", "Reports: {names}."


class RuleMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no cleanup rule {name!r}", "Rules: {names}."


class NoMatchError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no {kind} {id!r} in {tables}", "Check the id; upper and lower case differ."


class SessionMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no session {pids} at {target}", "List sessions with: `stats connections`"


class AmbiguousLoginError(DbctlError, status=Exit.REFUSED, code="login-ambiguous"):
    sentence = "{login!r} matches several users of {target} (ids {ids})"
    remedy = "Nothing was changed. Select one with --id."


class AmbiguousIdError(DbctlError, status=Exit.REFUSED, code="id-ambiguous"):
    sentence = "{text!r} is the beginning of several ids in {target}: {ids}"
    remedy = "Nothing was changed. Type more characters, or the complete id."


class AmbiguousNameError(DbctlError, status=Exit.REFUSED, code="name-ambiguous"):
    sentence = "{name!r} is the name of several rows of {table} in {target}: {ids}"
    remedy = "Nothing was changed. Use the exact spelling, or the id."


class KeyMissingError(DbctlError, status=Exit.USAGE):
    sentence = "{target} is encrypted, and {reason}"
    remedy = (
        "Nothing was changed. Pass an age identity or ssh key with --identity FILE, or a passphrase with --passphrase-file FILE;"
        " or set identity_file under [apps.NAME.backup.encrypt]."
    )


class ConfirmationMissingError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{title}: confirmation required, but there is no terminal", "{hint}"


class CleanupUnconfirmedError(DbctlError, status=Exit.REFUSED):
    sentence = (
        "{app}: the scheduled cleanup also deletes or changes rows of {tables}, which reference expired rows"
    )
    remedy = 'Nothing was written. Allow it in [apps.{app}.schedule] with cleanup_dependents = true, or turn the job off: cleanup = "off". List the rows with: `sessions cleanup --dry-run`'


class ConfirmationWrongError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "--confirm {value!r} does not match the app {app!r}", "Nothing was changed."


class DeclinedError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{title}: declined", "Nothing was changed."


class PlanChangedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} changed after the plan was shown"
    remedy = "Nothing was changed. Run it again and read the new plan."


class PasswordWrongError(DbctlError, status=Exit.FAILED):
    sentence = "wrong password for {login!r}"
    remedy = "Set a new one with: `users set-password {login}`"
