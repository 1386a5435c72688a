"""Create the library's client for a bucket of each provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from dbctl.config import s3
from dbctl.config.storage import Address, resolve_settings
from dbctl.model import Struct

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config, S3Credential

#: Attempts of one request, and the pause before the second one.
MAX_ATTEMPTS, RETRY_PAUSE = 5, timedelta(milliseconds=100)
#: The most parts of an upload, and of providers with fewer ones, by the ends of their hosts.
MAX_PARTS, FEWER_PARTS = 10_000, {".scw.cloud": 1_000}
#: The longest time of a whole request.
REQUEST_TIMEOUT = timedelta(seconds=300)


class Timeouts(Struct, frozen=True, kw_only=True):
    """Time limits of a client."""

    connect: timedelta
    read: timedelta  #: without a received byte
    retry: timedelta  #: after which no further attempt starts


#: Creates a client with these limits.
Connect = Callable[[Timeouts], "ObjectStore"]


def prepare_connection(address: Address) -> Connect:
    """Return the function that creates clients for a bucket; nothing is accessed yet.

    Raises:
        StorageKeysMissingError: no keys are configured.
        StorageSettingInvalidError: a setting is invalid.
    """
    return _PROVIDERS[address.scheme](address)


def count_parts(address: Address) -> int:
    """Return the most parts that an upload to a bucket may have."""
    endpoint = s3.resolve_access(address).endpoint if address.scheme == "s3" else ""
    host = urlsplit(endpoint).hostname or ""
    return next((count for end, count in FEWER_PARTS.items() if host.endswith(end)), MAX_PARTS)


def _prepare_s3(address: Address) -> Connect:
    access = s3.resolve_access(address)
    # Only AWS has a separate host for each bucket, and there no certificate covers a name with dots.
    hosted = not access.endpoint and "." not in address.bucket
    endpoint = access.endpoint or _aws_endpoint(access.region, address.bucket if hosted else "")
    settings: S3Config = {
        "region": access.region,
        # Otherwise the environment variables of these names would override a profile.
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "virtual_hosted_style_request": hosted,
        "skip_signature": False,
        "unsigned_payload": False,
        "disable_bulk_delete": True,  # many servers do not support it, and a folder has few files
    }
    keys, credentials = access.keys, {}
    if keys is not None:
        credential: S3Credential = {
            "access_key_id": keys.key,
            "secret_access_key": keys.secret.reveal(),
            "token": keys.token.reveal() if keys.token else None,
            "expires_at": None,
        }
        credentials["credential_provider"] = lambda: credential

    def connect(timeouts: Timeouts) -> S3Store:
        options = _client_options(endpoint, timeouts)
        if access.authorities:
            options["root_certificate"] = access.authorities
        return S3Store(
            address.bucket,
            config=settings,
            client_options=options,
            retry_config=_retry_options(timeouts),
            **credentials,  # type: ignore[arg-type]
        )

    return connect


def _prepare_from_settings(library: type[AzureStore | GCSStore]) -> Callable[[Address], Connect]:
    """Return the function for a provider whose settings are environment variables."""

    def prepare(address: Address) -> Connect:
        settings = resolve_settings(address)

        def connect(timeouts: Timeouts) -> AzureStore | GCSStore:
            config: Mapping[str, Any] = {name: value.reveal() for name, value in settings.values.items()}
            return library(
                address.bucket,
                config=config,  # type: ignore[arg-type]
                client_options=_client_options(settings.endpoint, timeouts),
                retry_config=_retry_options(timeouts),
            )

        return connect

    return prepare


_PROVIDERS: Mapping[str, Callable[[Address], Connect]] = {
    "s3": _prepare_s3,
    "az": _prepare_from_settings(AzureStore),
    "gs": _prepare_from_settings(GCSStore),
}


def _client_options(endpoint: str, timeouts: Timeouts) -> ClientConfig:
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timeouts.connect,
        "read_timeout": timeouts.read,
        "timeout": REQUEST_TIMEOUT,
    }


def _retry_options(timeouts: Timeouts) -> RetryConfig:
    return {
        "max_retries": MAX_ATTEMPTS - 1,
        "retry_timeout": timeouts.retry,
        "backoff": {"init_backoff": RETRY_PAUSE, "max_backoff": timedelta(seconds=10), "base": 2},
    }


def _aws_endpoint(region: str, bucket: str) -> str:
    """Return the endpoint of AWS for a region, or for one bucket in it."""
    china = ".cn" if region.startswith("cn-") else ""
    return f"https://{bucket and f'{bucket}.'}s3.{region}.amazonaws.com{china}"
