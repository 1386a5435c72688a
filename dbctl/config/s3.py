"""Where storage that speaks S3 is, and with which keys: an address, the usual variables, the shared files of profiles."""

from __future__ import annotations

import configparser
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dbctl.config import environment
from dbctl.errors import StorageKeysMissingError, StorageUnknownError
from dbctl.files import expand_home, read_settings, read_whole
from dbctl.model import Secret, Value

#: Of AWS itself, for storage that knows no regions, too.
REGION = "us-east-1"
#: 3 to 63 small letters, digits, dots and dashes, as every provider takes them.
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
#: What is the same in every tool that shows a key.
_PREFIX = re.compile(r"[\w!.*'()=+@,~:-]+")
#: What may stand in the head of a request.
_SENT = re.compile(r"[!-~]*")
#: Bytes; those of all authorities that there are take less.
_LARGEST_BUNDLE = 4 << 20
#: Variables by which a container or a cluster gives keys that last an hour; the library asks for those.
_LENT = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class Address(Value, frozen=True, kw_only=True):
    """``s3://[PROFILE@]BUCKET[/PREFIX]``, taken apart."""

    profile: str  #: of the shared files; empty: as the variables say
    bucket: str
    prefix: str  #: without a slash at its ends; may be empty

    @property
    def text(self) -> str:
        """The address as it is written."""
        profile, prefix = self.profile and f"{self.profile}@", self.prefix and f"/{self.prefix}"
        return f"s3://{profile}{self.bucket}{prefix}"


class Keys(Value, frozen=True, kw_only=True):
    """What requests are signed with."""

    key: str
    secret: Secret
    token: Secret | None = None


class Access(Value, frozen=True, kw_only=True):
    """How storage is reached."""

    endpoint: str  #: empty: AWS
    region: str
    keys: Keys | None  #: None: the library fetches keys that are lent
    authorities: bytes = b""  #: who is trusted beside those of this machine, as PEM


def parse(text: str) -> Address:
    """Take an address apart.

    Raises:
        StorageUnknownError: it is none.
    """
    where, mark, prefix = text.removeprefix("s3://").partition("/")
    profile, _, bucket = where.rpartition("@")

    def refuse(reason: str) -> StorageUnknownError:
        return StorageUnknownError(
            what=f"the address {_shown(text)!r}",
            reason=reason,
            instead="Write s3://BUCKET/PREFIX, or s3://PROFILE@BUCKET/PREFIX with a profile of ~/.aws/credentials.",
        )

    if ":" in profile:
        raise refuse("no key stands in an address")
    if not _BUCKET.fullmatch(bucket) or _is_host(bucket):
        raise refuse(f"{bucket!r} is no name of a bucket (3 to 63 of a-z, 0-9, - and .)")
    for part in prefix.rstrip("/").split("/") if mark and prefix.rstrip("/") else []:
        if part in {".", ".."} or not _PREFIX.fullmatch(part):
            raise refuse(f"{part!r} is no part of a prefix")
    return Address(profile=profile, bucket=bucket, prefix=prefix.rstrip("/"))


def _shown(text: str) -> str:
    """Return an address without what may be a secret that somebody wrote into it."""
    return re.sub(r"(?<=://)[^/@]*:[^/@]*(?=@)", "***", text)


def _is_host(bucket: str) -> bool:
    try:
        ipaddress.ip_address(bucket)
    except ValueError:
        return False
    return True


def access(address: Address) -> Access:
    """Return how the storage at an address is reached.

    A profile that the address names counts alone. Else variables count before the files, each for itself, but keys
    come from one of both.

    Raises:
        StorageKeysMissingError: nothing gives keys.
        StorageUnknownError: an endpoint is none, or there is no such profile.
    """
    told = environment.storage()
    profile = _profile(address, told)
    said = {} if address.profile else told
    endpoint = (
        said.get("AWS_ENDPOINT_URL_S3")
        or said.get("AWS_ENDPOINT_URL")
        or profile.get("s3.endpoint_url")
        or profile.get("endpoint_url", "")
    )
    region = said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION") or profile.get("region", REGION)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", region):
        raise StorageUnknownError(
            what=f"the region {region!r}", reason="it is none", instead="Correct AWS_REGION, or the profile."
        )
    return Access(
        endpoint=_endpoint(endpoint),
        region=region,
        keys=_keys(address, said, profile),
        authorities=_authorities(told.get("AWS_CA_BUNDLE") or profile.get("ca_bundle", "")),
    )


def _authorities(file: str) -> bytes:
    if not file:
        return b""
    try:
        found = read_whole(expand_home(file).resolve(), _LARGEST_BUNDLE)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or error}"
    else:
        if b"-----BEGIN CERTIFICATE-----" in found:
            return found
        reason = "it holds no certificate (PEM)"
    raise StorageUnknownError(what=f"AWS_CA_BUNDLE {file}", reason=reason, instead="Correct it, or unset it.")


def _endpoint(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) and text.isascii()
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s?#@\\]", text):  # its text is not repeated: a login may stand in it
        raise StorageUnknownError(
            what="the endpoint of AWS_ENDPOINT_URL",
            reason="it is no address",
            instead="Write https://HOST or https://HOST:PORT; http:// goes without encryption.",
        )
    return text.rstrip("/")


def _keys(address: Address, said: Mapping[str, str], profile: Mapping[str, str]) -> Keys | None:
    for source, names in (
        (said, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")),
        (profile, ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")),
    ):
        key, secret, token = (source.get(name, "") for name in names)
        if not (_SENT.fullmatch(key) and _SENT.fullmatch(token)):
            raise StorageKeysMissingError(place=address.text, reason=f"{names[0]} or {names[2]} is none")
        if key and secret:
            return Keys(key=key, secret=Secret(secret), token=Secret(token) if token else None)
        if key or secret:
            lacking = names[1] if key else names[0]
            raise StorageKeysMissingError(place=address.text, reason=f"{lacking} is not set")
    if any(said.get(name) for name in _LENT):
        return None
    raise StorageKeysMissingError(place=address.text, reason="nothing gives any")


def _profile(address: Address, told: Mapping[str, str]) -> dict[str, str]:
    """Return what the shared files say of a profile; of one that nobody named there need be none."""
    name = address.profile or told.get("AWS_PROFILE", "")
    found = dict[str, str]()
    home = Path("~/.aws")
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", f"profile {name}" if name not in ("", "default") else "default"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name or "default"),
    ):
        found |= _section(Path(told.get(variable, "")) if told.get(variable) else home / file, section)
    if name and not found:
        raise StorageUnknownError(
            what=f"the profile {name!r}",
            reason="no file of profiles has it",
            instead="They are in ~/.aws/credentials and ~/.aws/config, or where AWS_SHARED_CREDENTIALS_FILE says.",
        )
    return found


def _section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        text = read_settings(expand_home(str(file)))
        parser.read_string(text)
        found = dict(parser.items(name))
        services = found.get("services")
        more = dict(parser.items(f"services {services}")) if services else {}
    except (FileNotFoundError, NotADirectoryError, RuntimeError, configparser.NoSectionError):
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:  # what stands there is not repeated
        reason = f"it cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
        raise StorageUnknownError(what=file, reason=reason, instead="Correct it, or its mode.") from None
    # A service's own settings are lines below its name.
    nested = dict(line.partition("=")[::2] for line in more.get("s3", "").splitlines() if line.strip())
    return found | {f"s3.{key.strip()}": value.strip() for key, value in nested.items()}
