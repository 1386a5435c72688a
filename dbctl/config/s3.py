"""Address, endpoint and keys of S3 storage, from the URL, the AWS variables and the shared files of AWS profiles."""

from __future__ import annotations

import configparser
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dbctl.config import environment
from dbctl.errors import StorageKeysMissingError, StorageSettingInvalidError
from dbctl.files import expand_home, read_settings, read_whole
from dbctl.model import Secret, Struct

#: The default of AWS; also for storage without regions.
DEFAULT_REGION = "us-east-1"
#: 3 to 63 lowercase letters, digits, dots and dashes, which every provider accepts.
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
#: Characters that all tools show unchanged in object keys.
_PREFIX = re.compile(r"[\w!.*'()=+@,~:-]+")
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


class Address(Struct, frozen=True, kw_only=True):
    """``s3://[PROFILE@]BUCKET[/PREFIX]``."""

    profile: str  #: a profile of the shared files; empty: from the variables
    bucket: str
    prefix: str  #: without leading and trailing slash; may be empty

    @property
    def text(self) -> str:
        """The address as text."""
        profile, prefix = self.profile and f"{self.profile}@", self.prefix and f"/{self.prefix}"
        return f"s3://{profile}{self.bucket}{prefix}"


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


def parse_address(text: str) -> Address:
    """Parse an address.

    Raises:
        StorageSettingInvalidError: the address is invalid.
    """
    bucket_part, separator, prefix = text.removeprefix("s3://").partition("/")
    profile, _, bucket = bucket_part.rpartition("@")

    def refuse(reason: str) -> StorageSettingInvalidError:
        return StorageSettingInvalidError(
            setting=f"the address {_mask_secrets(text)!r}",
            reason=reason,
            hint="Write s3://BUCKET/PREFIX, or s3://PROFILE@BUCKET/PREFIX with a profile of ~/.aws/credentials.",
        )

    if ":" in profile:
        raise refuse("addresses must not contain keys")
    if not _BUCKET.fullmatch(bucket) or _is_host(bucket):
        raise refuse(f"{bucket!r} is not a bucket name (3 to 63 of a-z, 0-9, - and .)")
    for part in prefix.rstrip("/").split("/") if separator and prefix.rstrip("/") else []:
        if part in {".", ".."} or not _PREFIX.fullmatch(part):
            raise refuse(f"{part!r} is not allowed in a prefix")
    return Address(profile=profile, bucket=bucket, prefix=prefix.rstrip("/"))


def _mask_secrets(text: str) -> str:
    """Return an address with user and password masked."""
    return re.sub(r"(?<=://)[^/@]*:[^/@]*(?=@)", "***", text)


def _is_host(bucket: str) -> bool:
    try:
        ipaddress.ip_address(bucket)
    except ValueError:
        return False
    return True


def resolve_access(address: Address) -> Access:
    """Return endpoint, region and keys for an address.

    If the address names a profile, only that profile is used. Otherwise each variable takes precedence over the files, but
    both parts of the key are read from the same source.

    Raises:
        StorageKeysMissingError: no keys are configured.
        StorageSettingInvalidError: the endpoint or region is invalid, or the profile does not exist.
    """
    variables = environment.read_storage_variables()
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
        endpoint=_check_endpoint(endpoint),
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


def _check_endpoint(text: str) -> str:
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
            setting="the endpoint of AWS_ENDPOINT_URL",
            reason="it is not a URL",
            hint="Write https://HOST or https://HOST:PORT; http:// is not encrypted.",
        )
    return text.rstrip("/")


def _find_keys(address: Address, variables: Mapping[str, str], profile: Mapping[str, str]) -> Keys | None:
    for source, names in (
        (variables, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")),
        (profile, ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")),
    ):
        key, secret, token = (source.get(name, "") for name in names)
        if not (_HEADER_TEXT.fullmatch(key) and _HEADER_TEXT.fullmatch(token)):
            raise StorageKeysMissingError(place=address.text, reason=f"{names[0]} or {names[2]} is invalid")
        if key and secret:
            return Keys(key=key, secret=Secret(secret), token=Secret(token) if token else None)
        if key or secret:
            missing = names[1] if key else names[0]
            raise StorageKeysMissingError(place=address.text, reason=f"{missing} is not set")
    if any(variables.get(name) for name in _TEMPORARY_KEYS):
        return None
    raise StorageKeysMissingError(place=address.text, reason="no keys are configured")


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
    except (FileNotFoundError, NotADirectoryError, RuntimeError, configparser.NoSectionError):
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
