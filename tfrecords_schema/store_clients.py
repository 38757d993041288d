"""The clients of object stores: one a scheme, which URLs they take, what their errors and answers mean."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_EXTRAS = {"s3": ("s3fs", "aws"), "gs": ("gcsfs", "gcp"), "hdfs": ("pyarrow", "hdfs")}
_NO_BUCKET = "bucket does not exist"  # as S3 and Google say it
_MOST_SAID = 200  # characters of a client's own words
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"use_listings_cache": False},
    # The only store client that leaves it to us to ask for checksums of what is sent.
    "gs": {"use_listings_cache": False, "consistency": "md5"},
    "hdfs": {},
}


class StorageError(OSError):
    """What a store answered, when that is neither "there is none" nor "you may not"."""


class UrlError(ValueError):
    """A URL that no store is asked about: the message says what is expected."""


@dataclass(frozen=True)
class Stored:
    """What a store says of an object.

    Attributes:
        bytes: its size.
        mtime_ns: when it was written, nanoseconds since 1970; 0 when the store does not say.
        version: changes whenever it is written anew; "" when the store has no such thing.
    """

    bytes: int
    mtime_ns: int = 0
    version: str = ""


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a URL; everything else is a local path."""
    return _URL.match(os.fspath(path)) is not None


def check_url(url: str) -> str:
    """``url`` without slashes at its end, seen to be one that can be asked about.

    Raises:
        UrlError: for an unknown scheme, no bucket, or credentials within the URL, which would end up in logs.
    """
    match = _URL.match(url)
    scheme, rest = match.groups() if match else ("", "")
    bucket = rest.split("/", 1)[0]
    if "@" in bucket:
        raise UrlError(
            f"a URL must not hold credentials, got {scheme}://...@{bucket.rpartition('@')[2]}: "
            "give them in the environment or a profile (see docs/storage.md)"
        )
    if scheme not in _EXTRAS:
        known = ", ".join(f"{name}://" for name in _EXTRAS)
        raise UrlError(f"expected a local path or a URL of {known}, got {scheme}://{bucket}")
    if not bucket and scheme != "hdfs":
        raise UrlError(f"expected {scheme}://BUCKET/PATH, got {url}: name the bucket")
    return url.rstrip("/")


@functools.cache
def file_system(scheme: str, host: str) -> Any:
    """The client of a store: one a process, which its threads share."""
    if scheme == "gs":
        # The plain client: what fsspec would choose asks a second service what kind of bucket each one is.
        from gcsfs.core import GCSFileSystem

        # It logs every failure with its traceback before it raises what we say in a line.
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
        return GCSFileSystem(skip_instance_cache=True, **_OPTIONS[scheme])
    import fsspec

    client = fsspec.get_filesystem_class(scheme)
    options = client._get_kwargs_from_urls(f"{scheme}://{host}/") if host else {}
    # Not the instance that others in this process may have made with other options.
    return client(skip_instance_cache=True, **_OPTIONS[scheme], **options)


@contextlib.contextmanager
def store_client(url: str | os.PathLike[str]) -> Iterator[tuple[Any, str]]:
    """Yields the client of a URL's store and the object's name there; translates the client's errors."""
    url = os.fspath(url)
    try:
        scheme, rest = check_url(url).split("://", 1)
        files = file_system(scheme, rest.split("/", 1)[0] if scheme == "hdfs" else "")
        yield files, files._strip_protocol(url)
    except (UrlError, StorageError):
        raise
    except Exception as error:
        raise _explained(error, url) from error


def _explained(error: Exception, url: str) -> Exception:
    """``error`` of a store's client as one of ours; what is no answer of a store stays as it is."""
    scheme = url.split("://", 1)[0]
    package, extra = _EXTRAS[scheme]
    if isinstance(error, ImportError):
        reason = f"{scheme}:// needs the package {package}: pip install 'reelbeam[{extra}]'"
        return StorageError(errno.ENOSYS, reason, url)
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    said = " ".join(said.split())[:_MOST_SAID]
    if isinstance(error, FileNotFoundError):
        if _NO_BUCKET in said:
            return FileNotFoundError(errno.ENOENT, "there is no such bucket", url)
        return FileNotFoundError(errno.ENOENT, "there is no such object", url)
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"the store refused access ({said})", url)
    module = type(error).__module__.split(".")[0]
    if "Credential" in type(error).__name__ or module == "google":
        reason = f"no credentials that can be used ({said}): see docs/storage.md"
        return PermissionError(errno.EACCES, reason, url)
    if scheme == "hdfs":
        said = f"Hadoop's client, which needs Java and libhdfs (see docs/storage.md), said: {said}"
    if isinstance(error, OSError) or module in ("botocore", "aiobotocore", "aiohttp", "gcsfs"):
        return StorageError(error.errno if isinstance(error, OSError) else errno.EIO, said, url)
    return error


def check_bucket(files: Any, path: str) -> None:
    """Raises `FileNotFoundError` when the bucket is not there, which clients pass over."""
    bucket = path.split("/", 1)[0]
    if bucket and not files.exists(bucket):
        raise FileNotFoundError(_NO_BUCKET)


def described(entries: Iterable[dict[str, Any]], folder: str) -> dict[str, Stored]:
    """The files among a client's ``entries``, by their names relative to ``folder``, sorted."""
    named = {_name(entry["name"], folder): entry for entry in entries if entry["type"] == "file"}
    return {name: describe(named[name]) for name in sorted(named) if name}


def describe(info: dict[str, Any]) -> Stored:
    """One shape of what each client calls by names of its own."""
    modified = info.get("LastModified") or info.get("mtime") or info.get("updated")
    if isinstance(modified, str):
        modified = datetime.fromisoformat(modified.replace("Z", "+00:00"))
    nanoseconds = 0
    if isinstance(modified, datetime):
        # In integers: a float has no room for microseconds of today.
        seconds, microseconds = (
            int(modified.replace(microsecond=0).timestamp()),
            modified.microsecond,
        )
        nanoseconds = seconds * 10**9 + microseconds * 1000
    version = str(info.get("ETag") or info.get("etag") or "").strip('"')
    return Stored(int(info["size"]), nanoseconds, version)


def _name(path: str, folder: str) -> str:
    """``path`` relative to ``folder``; "" for its own marker, and for names no local file could have."""
    name = path.removeprefix(folder.rstrip("/")).removeprefix("/")
    parts = name.split("/")
    return name if all(part not in ("", ".", "..") for part in parts) else ""
