"""Addresses of object storage, and the settings of its providers, which are data."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from dbctl.config import environment
from dbctl.config.secrets import redact_text
from dbctl.errors.backup import StorageKeysMissingError, StorageSettingInvalidError
from dbctl.files.atomic import expand_home
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
    except (OSError, RuntimeError):  # there is no home, or it cannot be read
        return False


def _is_host(bucket: str) -> bool:
    try:
        ipaddress.ip_address(bucket)
    except ValueError:
        return False
    return True
