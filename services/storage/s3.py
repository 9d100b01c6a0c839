"""Artifacts in an S3 bucket."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from errors import ArtifactNotFound, StoreUnavailable
from services.storage.store import check_key, check_prefix, is_key

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

RETRY_AFTER_S = 5
CONFLICT_ATTEMPTS = 3
MAX_CONNECTIONS = 40  # as many as Starlette has worker threads

WRITER = "writer"  # metadata that ``create`` stores: the id of the call
CREDENTIAL_OR_REGION_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidToken",
        "RequestTimeout",
        "TokenRefreshRequired",
        "400",  # the answer to HEAD has no body, so an expired token is a bare 400
    }
)


class S3ArtifactStore:
    """Artifacts as objects of one bucket, under an optional prefix; thread-safe.

    Region and credentials come from boto3's own chain (environment, profile, role).
    boto3 is imported and the client built on first use, which takes half a second.
    The server must support ``If-None-Match: *``, as AWS, Ceph and MinIO do.
    An unanswered call gives up after about
    ``max_attempts * (connect_timeout_s + read_timeout_s)`` and a few seconds of back-off.

    Args:
        bucket: an existing bucket; without permission to list it, S3 answers "denied" for missing keys.
        endpoint_url: None for AWS; for another server the bucket is in the path.
        prefix: a folder of the bucket, such as ``forecasts/staging``; empty for the whole bucket.
        connect_timeout_s: how long one attempt waits for a connection.
        read_timeout_s: how long one attempt waits for the next bytes of an answer.
        max_attempts: how often a call is tried, the first time included.
    """

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        prefix: str = "",
        *,
        connect_timeout_s: float = 2.0,
        read_timeout_s: float = 5.0,
        max_attempts: int = 3,
    ) -> None:
        folder = check_prefix(prefix).rstrip("/")
        self._bucket = bucket
        self._prefix = f"{folder}/" if folder else ""
        self._endpoint_url = endpoint_url
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._max_attempts = max_attempts
        self._client: S3Client | None = None
        self._building = threading.Lock()

    def get(self, key: str) -> bytes:
        name = self._name(key)
        with self._reported("read", key):
            for attempts_left in reversed(range(self._max_attempts)):
                answer = self._s3().get_object(Bucket=self._bucket, Key=name)
                with closing(answer["Body"]) as body:
                    try:
                        return body.read()
                    except _broken_bodies():  # boto3 repeats a failed call, but not the reading of its answer
                        if not attempts_left:
                            raise
        raise AssertionError("at least one attempt is made")

    def put(self, key: str, data: bytes) -> None:
        name = self._name(key)
        with self._reported("write", key):
            self._s3().put_object(Bucket=self._bucket, Key=name, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        name = self._name(key)
        writer = uuid.uuid4().hex
        with self._reported("create", key):
            for _ in range(CONFLICT_ATTEMPTS):
                if self._put_if_absent(name, data, writer):
                    return True
                stored = self._head(name)
                if stored is not None:
                    # an earlier attempt of this call may be stored although its answer was lost
                    return stored["Metadata"].get(WRITER) == writer
        message = f"S3 bucket {self._bucket!r} could not create {key!r}: conflicting writers"
        raise StoreUnavailable(message, retry_after_s=RETRY_AFTER_S, operation="create", key=key)

    def exists(self, key: str) -> bool:
        name = self._name(key)
        with self._reported("look up", key):
            return self._head(name) is not None

    def list_keys(self, prefix: str) -> list[str]:
        beginning = self._prefix + check_prefix(prefix)
        with self._reported("list", prefix):
            pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=beginning)
            names = [found["Key"] for page in pages for found in page.get("Contents", [])]
        keys = (name.removeprefix(self._prefix) for name in names)
        return sorted(key for key in keys if is_key(key))  # a bucket may contain other objects

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._reported("delete", key):
            self._s3().delete_object(Bucket=self._bucket, Key=name)

    def close(self) -> None:
        """Close the pooled connections; the next call opens new ones."""
        with self._building:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put_if_absent(self, name: str, data: bytes, writer: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._s3().put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*", Metadata={WRITER: writer})
        except ClientError as error:
            if _status(error) not in (409, 412):  # a conflicting writer, a finished one
                raise
            return False
        return True

    def _head(self, name: str) -> "HeadObjectOutputTypeDef | None":
        from botocore.exceptions import ClientError

        try:
            return self._s3().head_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            if _status(error) != 404:
                raise
            self._s3().head_bucket(Bucket=self._bucket)  # a missing bucket answers 404 too
            return None

    def _s3(self) -> "S3Client":
        with self._building:
            if self._client is None:
                self._client = self._build_client()
            return self._client

    def _build_client(self) -> "S3Client":
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=self._connect_timeout_s,
            read_timeout=self._read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": self._max_attempts},
            max_pool_connections=MAX_CONNECTIONS,
            s3={"addressing_style": "path" if self._endpoint_url else "auto"},
            # botocore's default checksums are trailers that other servers do not understand
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client("s3", endpoint_url=self._endpoint_url, config=config)

    @contextmanager
    def _reported(self, operation: str, key: str) -> Iterator[None]:
        from botocore import exceptions as boto

        try:
            yield
        except boto.ClientError as error:
            if _code(error) == "NoSuchKey":
                raise ArtifactNotFound(key) from None
            if not _is_outage(error):
                raise
            raise self._failure(operation, key, _code(error), _retry_after_s(error)) from error
        except (
            boto.NoCredentialsError,
            boto.PartialCredentialsError,
            boto.CredentialRetrievalError,
            boto.ProfileNotFound,
            boto.SSOError,
        ) as error:
            raise self._failure(operation, key, type(error).__name__, None) from error
        except (boto.ConnectionError, boto.HTTPClientError, *_broken_bodies()) as error:
            raise self._failure(operation, key, type(error).__name__, RETRY_AFTER_S) from error

    def _failure(self, operation: str, key: str, reason: str, retry_after_s: int | None) -> StoreUnavailable:
        message = f"S3 bucket {self._bucket!r} could not {operation} {key!r}: {reason}"
        return StoreUnavailable(message, retry_after_s=retry_after_s, operation=operation, key=key, reason=reason)


def _broken_bodies() -> tuple[type[Exception], ...]:
    """How reading the body of an answer fails: botocore lets errors of urllib3 through there."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError


def _status(error: "ClientError") -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(error: "ClientError") -> str:
    return error.response["Error"]["Code"]


def _is_outage(error: "ClientError") -> bool:
    """Whether the bucket, permission, credentials or server are the cause, rather than the request."""
    status = _status(error)
    return status in (301, 401, 403, 404, 409, 429) or status >= 500 or _code(error) in CREDENTIAL_OR_REGION_CODES


def _retry_after_s(error: "ClientError") -> int | None:
    """Retrying helps with a busy or failing server only, not with a denial."""
    busy = _status(error) in (409, 429) or _status(error) >= 500 or _code(error) == "RequestTimeout"
    return RETRY_AFTER_S if busy else None
