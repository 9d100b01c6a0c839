"""Artifacts in an S3 bucket."""

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from errors import ArtifactNotFound, StoreUnavailable
from services.storage.store import Versioned, check_key, check_prefix, is_key

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

RETRY_AFTER_S = 5
CONFLICT_ATTEMPTS = 3
MAX_CONNECTIONS = 40  # as many as Starlette has worker threads

WRITER = "writer"  # metadata: id of the call that wrote the object, and of those whose versions ``replace`` replaced
KEPT_WRITERS = 40  # S3 allows 2 kB of metadata

# hidden objects, which no key can name
PROBE = ".conditional-writes"
SUCCESSORS = ".successors"
CHAINED = "chained"  # metadata of an object that may have a successor
SUCCESSORS_KEPT_FOR = timedelta(days=1)

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
    The server must support ``If-None-Match: *``, as AWS, Ceph and MinIO do. ``replace`` uses ``If-Match`` where a
    probe shows that the server honours it, and successors otherwise, see ``_replace_by_successor``.
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
        self._honours_if_match: bool | None = None
        self._client: S3Client | None = None
        self._building = threading.Lock()

    def get(self, key: str) -> bytes:
        name = self._name(key)
        with self._reported("read", key):
            return self._get(name)[0]

    def put(self, key: str, data: bytes) -> None:
        name = self._name(key)
        with self._reported("write", key):
            writer = {WRITER: uuid.uuid4().hex}
            self._s3().put_object(Bucket=self._bucket, Key=name, Body=data, Metadata=writer)

    def create(self, key: str, data: bytes) -> bool:
        name = self._name(key)
        with self._reported("create", key):
            return self._create(name, data, uuid.uuid4().hex, "create", key)

    def read_versioned(self, key: str) -> Versioned:
        name = self._name(key)
        with self._reported("read", key):
            data, stored = self._get(name)
            newer = self._successor(name, _id(_version(stored))) if CHAINED in stored["Metadata"] else None
            while newer is not None:
                data, stored = newer
                newer = self._successor(name, _id(_version(stored)))
            return Versioned(data, _version(stored))

    def replace(self, key: str, data: bytes, version: str) -> bool:
        name = self._name(key)
        with self._reported("replace", key):
            if self._honours_if_match is None:
                self._honours_if_match = self._probe(key, name)
            if self._honours_if_match:
                return self._replace_if_match(name, data, version)
            return self._replace_by_successor(key, name, data, version)

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

    def _get(self, name: str) -> "tuple[bytes, GetObjectOutputTypeDef]":
        for attempts_left in reversed(range(self._max_attempts)):
            answer = self._s3().get_object(Bucket=self._bucket, Key=name)
            with closing(answer["Body"]) as body:
                try:
                    return body.read(), answer
                except _broken_bodies():  # boto3 repeats a failed call, but not the reading of its answer
                    if not attempts_left:
                        raise
        raise AssertionError("at least one attempt is made")

    def _create(self, name: str, data: bytes, writer: str, operation: str, key: str) -> bool:
        for _ in range(CONFLICT_ATTEMPTS):
            if self._put_if_absent(name, data, writer):
                return True
            stored = self._head(name)
            if stored is not None:
                # an earlier attempt of this call may be stored although its answer was lost
                return writer in _writers(stored)
        raise self._failure(operation, key, "conflicting writers", RETRY_AFTER_S)

    def _probe(self, key: str, name: str) -> bool:
        """Whether the server refuses a put for a wrong ``If-Match`` and accepts one for the right one.

        Some servers ignore the header, some refuse every put that has it, and no answer says so.
        """
        probe = _beside(name, PROBE)
        data = b"Written by each process, to find out whether this server honours If-Match."
        etag = self._s3().put_object(Bucket=self._bucket, Key=probe, Body=data)["ETag"]
        for _ in range(CONFLICT_ATTEMPTS):
            wrong, right = (self._put_if_match(probe, data, tried, {}) for tried in (f'"{uuid.uuid4().hex}"', etag))
            if wrong == 200:
                return False
            if right == 200:
                return True
            stored = self._head(probe)
            now = None if stored is None else stored["ETag"]
            if now == etag and 409 not in (wrong, right):
                return False
            etag = now or etag  # another process probes too, and encryption gives the same data another ETag
        raise self._failure("replace", key, "conflicting writers", RETRY_AFTER_S)

    def _replace_if_match(self, name: str, data: bytes, version: str) -> bool:
        etag, *writers = version.split()
        writer = uuid.uuid4().hex
        metadata = {WRITER: " ".join([writer, *writers][:KEPT_WRITERS])}
        if self._put_if_match(name, data, etag, metadata) == 200:
            return True
        stored = self._head(name)
        # it may be stored, and replaced since, although the answer was lost
        return stored is not None and writer in _writers(stored)

    def _replace_by_successor(self, key: str, name: str, data: bytes, version: str) -> bool:
        """Replace where the server only has create-if-absent.

        Each version has one successor at most: a hidden object with the new data that is created under the version's
        id, and is then copied to the key. ``read_versioned`` and ``replace`` follow the successors, so a copy that a
        crash prevented is made up for, and one that arrives late overwrites nothing that they read. There is no lock,
        and so no holder that could die and no clock that could be wrong. Successors are deleted a day after the next
        change, by the server's clock: a copy that is delayed for longer than that would undo later changes.
        """
        try:
            if _id(self.read_versioned(key).version) != _id(version):
                return False
        except ArtifactNotFound:
            return False
        writer = uuid.uuid4().hex
        won = self._create(_successor_name(name, _id(version)), data, writer, "replace", key)
        self._follow(name, version)
        if won:
            self._delete_old_successors(name)
        return won

    def _successor(self, name: str, version_id: str) -> "tuple[bytes, GetObjectOutputTypeDef] | None":
        from botocore.exceptions import ClientError

        try:
            return self._get(_successor_name(name, version_id))
        except ClientError as error:
            if _code(error) != "NoSuchKey":
                raise
            return None

    def _follow(self, name: str, version: str) -> None:
        """Copy the newest successor of a version to its key, and look again: another may have been copied meanwhile."""
        version_id = _id(version)
        while (found := self._successor(name, version_id)) is not None:
            data, stored = found
            version_id = _id(_version(stored))
            metadata = {WRITER: version_id, CHAINED: "yes"}
            self._s3().put_object(Bucket=self._bucket, Key=name, Body=data, Metadata=metadata)

    def _delete_old_successors(self, name: str) -> None:
        pages = (
            self._s3().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=_successor_name(name, ""))
        )
        found = [one for page in pages for one in page.get("Contents", [])]
        newest = max((one["LastModified"] for one in found), default=None)
        for one in found:
            if newest is not None and newest - one["LastModified"] > SUCCESSORS_KEPT_FOR:
                self._s3().delete_object(Bucket=self._bucket, Key=one["Key"])

    def _put_if_match(self, name: str, data: bytes, etag: str, metadata: Mapping[str, str]) -> int:
        """The status of the answer: 200, or why nothing was stored."""
        from botocore.exceptions import ClientError

        try:
            self._s3().put_object(Bucket=self._bucket, Key=name, Body=data, IfMatch=etag, Metadata=metadata)
        except ClientError as error:
            # a conflicting writer, a finished one, a server without such puts, a deleted object
            if _status(error) not in (409, 412, 501) and _code(error) != "NoSuchKey":
                raise
            return _status(error)
        return 200

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

        broken: tuple[type[BaseException], ...] = (boto.ConnectionError, boto.HTTPClientError, *_broken_bodies())
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
        except broken as error:
            raise self._failure(operation, key, type(error).__name__, RETRY_AFTER_S) from error

    def _failure(self, operation: str, key: str, reason: str, retry_after_s: int | None) -> StoreUnavailable:
        message = f"S3 bucket {self._bucket!r} could not {operation} {key!r}: {reason}"
        return StoreUnavailable(message, retry_after_s=retry_after_s, operation=operation, key=key, reason=reason)


def _broken_bodies() -> tuple[type[BaseException], ...]:
    """How reading the body of an answer fails: botocore lets errors of urllib3 through there."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError


def _writers(stored: "GetObjectOutputTypeDef | HeadObjectOutputTypeDef") -> list[str]:
    return stored["Metadata"].get(WRITER, "").split()


def _version(stored: "GetObjectOutputTypeDef") -> str:
    """The ETag, and the ids of the calls that wrote the object."""
    return " ".join([stored["ETag"], *_writers(stored)])


def _id(version: str) -> str:
    """The id of the call that wrote a version; its ETag where a plain put did."""
    etag, *writers = version.split()
    return writers[0] if writers else etag.strip('"')


def _successor_name(name: str, version_id: str) -> str:
    return _beside(name, f"{SUCCESSORS}/{name.rpartition('/')[2]}/{version_id}")


def _beside(name: str, hidden: str) -> str:
    """A hidden object in the folder of another: permissions are often given by folder."""
    return f"{name.rpartition('/')[0]}/{hidden}".lstrip("/")


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
