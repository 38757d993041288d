"""Clients of object stores, and the translation of their errors and answers into ours."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tfrecords_schema.paths import StrPath, UrlError, check_path

_PACKAGES = {"s3": ("s3fs", "aws"), "gs": ("gcsfs", "gcp"), "hdfs": ("pyarrow", "hdfs")}
_NO_BUCKET = "bucket does not exist"  # in the words of S3 and Google
_MAX_REASON_LENGTH = 200  # characters of a client's own message
_OPTIONS = {"skip_instance_cache": True, "use_listings_cache": False}


class StorageError(OSError):
    """A failure of a store that is neither "no such object" nor "access denied"."""


@dataclass(frozen=True)
class Stored:
    """Size, time and version of a file or object.

    Attributes:
        bytes: its size.
        mtime_ns: when it was written, nanoseconds since 1970; 0 if the store does not say.
        version: changes with each write; "" for local files and for stores without versions.
    """

    bytes: int
    mtime_ns: int = 0
    version: str = ""


@functools.cache
def file_system(scheme: str, host: str) -> Any:
    """Returns the client of a store. All threads of the process share it."""
    if scheme == "gs":
        # fsspec's default asks a second service for each bucket's kind, so the plain client is taken.
        from gcsfs.core import GCSFileSystem

        # It logs each failure with its traceback before raising it.
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
        # It sends no checksums unless it is asked to.
        return GCSFileSystem(consistency="md5", **_OPTIONS)
    import fsspec

    client = fsspec.get_filesystem_class(scheme)
    options = client._get_kwargs_from_urls(f"{scheme}://{host}/") if host else {}
    return client(**_OPTIONS, **options)


# Clients of a parent process refuse to work in its forks, such as workers that load data.
os.register_at_fork(after_in_child=file_system.cache_clear)


@contextlib.contextmanager
def store_client(url: StrPath, *, writing: bool = False) -> Iterator[tuple[Any, str]]:
    """Yields the client of a URL's store and the object's name there; translates the client's errors."""
    url = os.fspath(url)
    try:
        scheme, rest = check_path(url).split("://", 1)
        client = file_system(scheme, rest.split("/", 1)[0] if scheme == "hdfs" else "")
        name = client._strip_protocol(url)
        try:
            yield client, name
        except FileNotFoundError:
            if writing:
                check_bucket(client, name)
            raise
    except (UrlError, StorageError):
        raise
    except Exception as error:
        raise _translated(error, url) from error


def _translated(error: Exception, url: str) -> Exception:
    """Returns a client's error as one of the types of `tfrecords_schema.storage`; others stay as they are."""
    scheme = url.split("://", 1)[0]
    package, extra = _PACKAGES[scheme]
    if isinstance(error, ImportError):
        reason = f"{scheme}:// needs the package {package}: pip install 'reelbeam[{extra}]'"
        return StorageError(errno.ENOSYS, reason, url)
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    said = " ".join(said.split())[:_MAX_REASON_LENGTH]
    if isinstance(error, FileNotFoundError):
        missing = "bucket" if _NO_BUCKET in said else "object"
        return FileNotFoundError(errno.ENOENT, f"there is no such {missing}", url)
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"the store refused access ({said})", url)
    module = type(error).__module__.split(".")[0]
    if "Credential" in type(error).__name__ or module == "google":
        reason = f"no credentials that can be used ({said}). See docs/storage.md"
        return PermissionError(errno.EACCES, reason, url)
    if scheme == "hdfs":
        said = f"Hadoop's client, which needs Java and libhdfs (docs/storage.md), said: {said}"
    if isinstance(error, OSError) or module in ("botocore", "aiobotocore", "aiohttp", "gcsfs"):
        return StorageError(error.errno if isinstance(error, OSError) else errno.EIO, said, url)
    return error


def check_bucket(client: Any, name: str) -> None:
    """Raises `FileNotFoundError` if the bucket does not exist; clients list it as an empty one."""
    bucket = name.split("/", 1)[0]
    if bucket and not client.exists(bucket):
        raise FileNotFoundError(_NO_BUCKET)


def described(entries: Iterable[dict[str, Any]], folder: str) -> dict[str, Stored]:
    """Returns the files among a client's ``entries``, by name relative to ``folder``, sorted."""
    root = folder.rstrip("/")
    named = {
        entry["name"].removeprefix(root).removeprefix("/"): entry
        for entry in entries
        if entry["type"] == "file" and not entry["name"].endswith("/")  # marks a folder
    }
    return {name: describe(named[name]) for name in sorted(named) if name}


def describe(info: dict[str, Any]) -> Stored:
    """Returns the size, time and version that a client reports, under keys that differ by client."""
    modified = info.get("LastModified") or info.get("mtime") or info.get("updated")
    if isinstance(modified, str):
        modified = datetime.fromisoformat(modified.replace("Z", "+00:00"))
    nanoseconds = 0
    if isinstance(modified, datetime):
        # In integers: a float cannot hold today's time to the microsecond.
        seconds = int(modified.replace(microsecond=0).timestamp())
        nanoseconds = seconds * 10**9 + modified.microsecond * 1000
    version = str(info.get("ETag") or info.get("etag") or "").strip('"')
    return Stored(int(info["size"]), nanoseconds, version)


def is_path(name: str) -> bool:
    """Returns True if a local file can have the name of an object: no part is empty, ``.`` or ``..``."""
    return all(part not in ("", ".", "..") for part in name.split("/"))
