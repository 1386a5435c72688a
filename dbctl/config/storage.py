"""Addresses of repositories that are no local folder, and the settings of the providers of object storage, which are data.

Those of servers of files: ``sftp://[USER@]HOST[:PORT]/PATH``, and ``rclone:REMOTE:PATH``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from dbctl.config import environment
from dbctl.config.secrets import redact_text
from dbctl.errors.backup import StorageKeysMissingError, StorageSettingInvalidError
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import expand_home
from dbctl.files.ssh import list_options, split_address
from dbctl.model import Secret, Struct

#: Characters that all tools show unchanged in object keys.
_PREFIX = re.compile(r"[\w!.*'()=+@,~:-]+")


class Provider(Struct, frozen=True, kw_only=True):
    """A kind of object storage."""

    name: str
    container: str  #: the provider's word for a bucket
    container_pattern: str
    container_rule: str  #: the pattern for messages
    has_profiles: bool = False  #: whether an address may name a profile of shared files
    #: Environment variables, with the names of their settings in the library.
    variables: Mapping[str, str] = {}
    endpoint: str = ""  #: the setting with the endpoint
    #: Settings of which at least one of each group is required.
    required: Sequence[Sequence[str]] = ()
    default_file: str = ""  #: a file of keys that the library reads without a setting
    remedy: str = ""


#: The providers by the scheme of addresses. S3 has its own module, because its settings are also in shared files.
PROVIDERS: Mapping[str, Provider] = {
    "s3": Provider(
        name="S3",
        container="bucket",
        # which every server with the S3 protocol accepts
        container_pattern=r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]",
        container_rule="3 to 63 of a-z, 0-9, - and .",
        has_profiles=True,
        remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set AWS_PROFILE to a profile of ~/.aws/credentials.",
    ),
    "az": Provider(
        name="Azure Blob Storage",
        container="container",
        container_pattern=r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]",
        container_rule="3 to 63 of a-z, 0-9 and -",
        variables={
            "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
            "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
            "AZURE_STORAGE_SAS_TOKEN": "sas_key",
            "AZURE_STORAGE_TOKEN": "token",
            "AZURE_STORAGE_ENDPOINT": "endpoint",
            "AZURE_AUTHORITY_HOST": "authority_host",
            "AZURE_CLIENT_ID": "client_id",
            "AZURE_CLIENT_SECRET": "client_secret",
            "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
            "AZURE_TENANT_ID": "tenant_id",
            "IDENTITY_ENDPOINT": "msi_endpoint",
        },
        endpoint="endpoint",
        required=(
            ("account_name",),
            ("account_key", "sas_key", "token", "client_secret", "federated_token_file", "msi_endpoint"),
        ),
        remedy="Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_CLIENT_SECRET.",
    ),
    "gs": Provider(
        name="Google Cloud Storage",
        container="bucket",
        container_pattern=r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){1,220}[a-z0-9]",
        container_rule="3 to 222 of a-z, 0-9, -, _ and .",
        variables={
            "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
            "GOOGLE_BASE_URL": "base_url",
            "GOOGLE_BEARER_TOKEN": "bearer_token",
            "GOOGLE_SERVICE_ACCOUNT": "service_account",
            "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
        },
        endpoint="base_url",
        required=(("application_credentials", "bearer_token", "service_account", "service_account_key"),),
        default_file="~/.config/gcloud/application_default_credentials.json",
        remedy="Set GOOGLE_APPLICATION_CREDENTIALS to a file of keys, or run: gcloud auth application-default login",
    ),
}


class Address(Struct, frozen=True, kw_only=True):
    """``SCHEME://[PROFILE@]BUCKET[/PREFIX]``."""

    scheme: str = "s3"  #: a key of ``PROVIDERS``
    profile: str = ""  #: a profile of the shared files of S3; empty: from the variables
    bucket: str
    prefix: str  #: without leading and trailing slash; may be empty

    @property
    def provider(self) -> Provider:
        """The kind of storage."""
        return PROVIDERS[self.scheme]

    @property
    def text(self) -> str:
        profile, prefix = self.profile and f"{self.profile}@", self.prefix and f"/{self.prefix}"
        return f"{self.scheme}://{profile}{self.bucket}{prefix}"


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of storage whose configuration consists of environment variables."""

    values: Mapping[str, Secret]  #: by the names of the library
    endpoint: str  #: empty: that of the provider


def is_storage(address: str) -> bool:
    """Whether an address is one of object storage."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme in PROVIDERS


def parse_address(text: str) -> Address:
    """Parse an address of object storage.

    Raises:
        StorageSettingInvalidError: the address is invalid.
    """
    scheme, _, path = text.partition("://")
    provider = PROVIDERS[scheme]
    bucket_part, separator, prefix = path.partition("/")
    profile, _, bucket = bucket_part.rpartition("@")
    form = f"{scheme}://{provider.container.upper()}/PREFIX"
    hint = f"Write {form}."
    if provider.has_profiles:
        hint = f"Write {form}, or s3://PROFILE@BUCKET/PREFIX with a profile of ~/.aws/credentials."

    def refuse(reason: str) -> StorageSettingInvalidError:
        return StorageSettingInvalidError(
            setting=f"the address {redact_text(text)!r}", reason=reason, hint=hint
        )

    if ":" in profile:
        raise refuse("addresses must not contain keys")
    if profile and not provider.has_profiles:
        raise refuse(f"addresses of {provider.name} contain no @")
    if not re.fullmatch(provider.container_pattern, bucket) or _is_host(bucket):
        raise refuse(
            f"{redact_text(bucket)!r} is not a {provider.container} name ({provider.container_rule})"
        )
    for part in prefix.rstrip("/").split("/") if separator and prefix.rstrip("/") else []:
        if part in {".", ".."} or not _PREFIX.fullmatch(part):
            raise refuse(f"{redact_text(part)!r} is not allowed in a prefix")
    return Address(scheme=scheme, profile=profile, bucket=bucket, prefix=prefix.rstrip("/"))


def resolve_settings(address: Address) -> Settings:
    """Return the settings for an address, from the environment variables of its provider.

    Raises:
        StorageKeysMissingError: no keys are configured.
        StorageSettingInvalidError: the endpoint is invalid.
    """
    provider = address.provider
    variables = environment.read_storage_variables(tuple(provider.variables))
    values = {provider.variables[name]: Secret(value) for name, value in variables.items() if value}
    for names in provider.required:
        if not (values.keys() & set(names)) and not _exists(provider.default_file):
            unset = [name for name, setting in provider.variables.items() if setting in names]
            raise create_missing_error(address, f"{' or '.join(unset[:3])} is not set")
    endpoint = values[provider.endpoint].reveal() if provider.endpoint in values else ""
    variable = next(name for name, setting in provider.variables.items() if setting == provider.endpoint)
    return Settings(values=values, endpoint=check_endpoint(endpoint, variable))


def create_missing_error(address: Address, reason: str) -> StorageKeysMissingError:
    """Return the error for storage whose keys are not configured."""
    return StorageKeysMissingError(place=address.text, reason=reason, hint=address.provider.remedy)


def check_endpoint(text: str, variable: str) -> str:
    """Return an endpoint without trailing slash.

    Raises:
        StorageSettingInvalidError: it is not a URL.
    """
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        is_valid = (
            parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) and text.isascii()
        )
    except ValueError:
        is_valid = False
    if not is_valid or re.search(r"[\s?#@\\]", text):  # not shown, because it may contain a login
        raise StorageSettingInvalidError(
            setting=f"the endpoint of {variable}",
            reason="it is not a URL",
            hint="Write https://HOST or https://HOST:PORT; http:// is not encrypted.",
        )
    return text.rstrip("/")


def _exists(file: str) -> bool:
    try:
        return bool(file) and expand_home(file).is_file()
    except (OSError, UsageError):  # there is no home, or it cannot be read
        return False


def _is_host(bucket: str) -> bool:
    try:
        ipaddress.ip_address(bucket)
    except ValueError:
        return False
    return True


SFTP, RCLONE = "sftp://", "rclone:"
#: A host is an argument of ssh, so it begins with no hyphen.
_HOST = r"(?a)([\w][\w.=+-]*@)?([\w][\w.-]*|\[[\w:.%]+\])(:\d{1,5})?"
#: A remote of the configuration of rclone, and not an address with settings, which might contain a password.
_REMOTE = r"(?a)[\w][\w .+@-]*"
_FORMS = {
    SFTP: "sftp://[USER@]HOST[:PORT]/PATH, or …/~/PATH below the home directory",
    RCLONE: "rclone:REMOTE:PATH",
}
#: The folder below the home directory of the server's user, with which a connection begins.
_HOME = "~/"
#: Of the server that rclone is for dbctl: it asks the remote each time, and nothing is delayed.
_RCLONE_OPTIONS = ("--stdio", "--dir-cache-time", "0s", "--vfs-cache-mode", "off", "--dir-perms", "0700", "--file-perms", "0600")  # fmt: skip


class FileServerAddress(Struct, frozen=True, kw_only=True):
    """A folder of a server of files."""

    scheme: str  #: ``SFTP`` or ``RCLONE``
    server: str  #: ``[USER@]HOST[:PORT]``, or the name of a remote
    path: str  #: without trailing slash

    @property
    def text(self) -> str:
        if self.scheme == RCLONE:
            return f"{RCLONE}{self.server}:{self.path}"
        return f"{SFTP}{self.server}{self.path if self.path.startswith('/') else f'/{_HOME}{self.path}'}"

    @property
    def root(self) -> str:
        """The folder, as the program of ``list_words`` names it; rclone begins in it."""
        return self.path if self.scheme == SFTP else ""

    def list_words(self, seconds: float) -> list[str]:
        """Return the program that connects with the server by SFTP; ``seconds`` limit the time until it is connected."""
        if self.scheme == RCLONE:
            return ["rclone", "serve", "sftp", *_RCLONE_OPTIONS, f"{self.server}:{self.path}"]
        port, destination = split_address(self.server)
        # the first value of an option counts
        limit = ["-o", f"ConnectTimeout={max(1, round(seconds))}"]
        return ["ssh", *limit, *list_options(), *port, "-s", "--", destination, "sftp"]

    @property
    def hint(self) -> str:
        """The command that shows whether the server can be reached."""
        if self.scheme == RCLONE:
            return f"Check that this works: rclone lsd {self.server}:"
        port, destination = split_address(self.server)
        words = " ".join(["sftp", *(["-P", port[1]] if port else []), destination])
        return f"Check that this works without a question: {words}"


def is_file_server(address: str) -> bool:
    return address.startswith((SFTP, RCLONE))


def parse_file_server(text: str) -> FileServerAddress:
    """Parse an address of a server of files.

    Raises:
        StorageSettingInvalidError: the address is invalid.
    """
    scheme = SFTP if text.startswith(SFTP) else RCLONE
    server, separator, path = text.removeprefix(scheme).partition("/" if scheme == SFTP else ":")

    def refuse(reason: str) -> StorageSettingInvalidError:
        setting = f"the address {redact_text(text)!r}"
        return StorageSettingInvalidError(setting=setting, reason=reason, hint=f"Write {_FORMS[scheme]}.")

    if ":" in server.rpartition("@")[0]:
        raise refuse("addresses must not contain passwords")
    if not separator or not re.fullmatch(_HOST if scheme == SFTP else _REMOTE, server):
        raise refuse("it names no host" if scheme == SFTP else "it names no remote")
    if not text.isprintable() or any(part in {".", ".."} for part in path.split("/")):
        raise refuse("its path contains .. or characters that cannot be printed")
    is_relative = path.startswith(_HOME) or path == "~"
    path = path.removeprefix("~").strip("/") if scheme == SFTP else path.rstrip("/")
    if not path and scheme == SFTP:
        raise refuse("it names no folder")
    return FileServerAddress(
        scheme=scheme, server=server, path=path if is_relative or scheme == RCLONE else f"/{path}"
    )
