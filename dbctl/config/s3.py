"""Endpoint, region and keys of S3 storage, from the AWS variables and the shared files of AWS profiles."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from pathlib import Path

from dbctl.config import environment
from dbctl.config.storage import Address, check_endpoint, create_missing_error
from dbctl.errors.backup import StorageSettingInvalidError
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import expand_home, read_settings, read_whole
from dbctl.model import Secret, Struct

#: The standard variables of S3 storage and its keys.
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
#: The default of AWS; also for storage without regions.
DEFAULT_REGION = "us-east-1"
#: Characters that HTTP headers may contain.
_HEADER_TEXT = re.compile(r"[!-~]*")
#: Maximum bytes of a certificate bundle; one with all public authorities is smaller.
_MAX_BUNDLE_BYTES = 4 << 20
#: Variables with which containers and clusters provide temporary keys, which the library fetches.
_TEMPORARY_KEYS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class Keys(Struct, frozen=True, kw_only=True):
    """The keys that sign requests."""

    key: str
    secret: Secret
    token: Secret | None = None


class Access(Struct, frozen=True, kw_only=True):
    """Endpoint, region and keys of a storage."""

    endpoint: str  #: empty: AWS
    region: str
    keys: Keys | None  #: None: the library fetches temporary keys
    authorities: bytes = b""  #: further certificate authorities besides those of the system, as PEM


def resolve_access(address: Address) -> Access:
    """Return endpoint, region and keys for an address.

    If the address names a profile, only that profile is used. Otherwise each variable takes precedence over the files, but
    both parts of the key are read from the same source.

    Raises:
        StorageKeysMissingError: no keys are configured.
        StorageSettingInvalidError: the endpoint or region is invalid, or the profile does not exist.
    """
    variables = environment.read_storage_variables(VARIABLES)
    profile = _read_profile(address, variables)
    address_variables = {} if address.profile else variables
    endpoint = (
        address_variables.get("AWS_ENDPOINT_URL_S3")
        or address_variables.get("AWS_ENDPOINT_URL")
        or profile.get("s3.endpoint_url")
        or profile.get("endpoint_url", "")
    )
    region = (
        address_variables.get("AWS_REGION")
        or address_variables.get("AWS_DEFAULT_REGION")
        or profile.get("region", DEFAULT_REGION)
    )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", region):
        raise StorageSettingInvalidError(
            setting=f"the region {region!r}",
            reason="it is invalid",
            hint="Correct AWS_REGION or the profile.",
        )
    return Access(
        endpoint=check_endpoint(endpoint, "AWS_ENDPOINT_URL"),
        region=region,
        keys=_find_keys(address, address_variables, profile),
        authorities=_read_authorities(variables.get("AWS_CA_BUNDLE") or profile.get("ca_bundle", "")),
    )


def _read_authorities(file: str) -> bytes:
    if not file:
        return b""
    try:
        content = read_whole(expand_home(file).resolve(), _MAX_BUNDLE_BYTES)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or error}"
    else:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return content
        reason = "it contains no certificate (PEM)"
    raise StorageSettingInvalidError(
        setting=f"AWS_CA_BUNDLE {file}", reason=reason, hint="Correct it, or unset it."
    )


def _find_keys(address: Address, variables: Mapping[str, str], profile: Mapping[str, str]) -> Keys | None:
    for source, names in (
        (variables, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")),
        (profile, ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")),
    ):
        key, secret, token = (source.get(name, "") for name in names)
        if not (_HEADER_TEXT.fullmatch(key) and _HEADER_TEXT.fullmatch(token)):
            raise create_missing_error(address, f"{names[0]} or {names[2]} is invalid")
        if key and secret:
            return Keys(key=key, secret=Secret(secret), token=Secret(token) if token else None)
        if key or secret:
            missing = names[1] if key else names[0]
            raise create_missing_error(address, f"{missing} is not set")
    if any(variables.get(name) for name in _TEMPORARY_KEYS):
        return None
    raise create_missing_error(address, "no keys are configured")


def _read_profile(address: Address, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the values of a profile in the shared files; the default profile may be missing."""
    name = address.profile or variables.get("AWS_PROFILE", "")
    values = dict[str, str]()
    home = Path("~/.aws")
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", f"profile {name}" if name not in ("", "default") else "default"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name or "default"),
    ):
        values |= _read_section(
            Path(variables.get(variable, "")) if variables.get(variable) else home / file, section
        )
    if name and not values:
        raise StorageSettingInvalidError(
            setting=f"the profile {name!r}",
            reason="no file of profiles contains it",
            hint="Profiles are in ~/.aws/credentials and ~/.aws/config, or in AWS_SHARED_CREDENTIALS_FILE.",
        )
    return values


def _read_section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        text = read_settings(expand_home(str(file)))
        parser.read_string(text)
        values = dict(parser.items(name))
        services = values.get("services")
        service_values = dict(parser.items(f"services {services}")) if services else {}
    except (FileNotFoundError, NotADirectoryError, UsageError, configparser.NoSectionError):
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # The text is not shown, because it may contain keys.
        reason = f"it cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
        raise StorageSettingInvalidError(
            setting=file, reason=reason, hint="Correct the file or its permissions."
        ) from None
    # The settings of a service are indented lines below its name.
    nested = dict(
        line.partition("=")[::2] for line in service_values.get("s3", "").splitlines() if line.strip()
    )
    return values | {f"s3.{key.strip()}": value.strip() for key, value in nested.items()}
