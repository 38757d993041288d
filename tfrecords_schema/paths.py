"""Path arithmetic for local paths and URLs of object stores (``s3://bucket/clips``)."""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
import re
from pathlib import Path

StrPath = str | os.PathLike[str]

SCHEMES = ("s3", "gs", "hdfs")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


class UrlError(ValueError):
    """A URL that no store can be asked about. The message says what is expected."""


def is_url(path: StrPath) -> bool:
    """Returns True if ``path`` is a URL; everything else is a local path."""
    return _URL.match(os.fspath(path)) is not None


def check_path(path: str) -> str:
    """Returns a local path as it is, and a usable URL without slashes at its end; refuses other URLs."""
    match = _URL.match(path)
    if match is None:
        return path
    scheme, rest = match.groups()
    bucket = rest.split("/", 1)[0]
    if "@" in bucket:  # would end up in logs
        raise UrlError(
            f"a URL must not hold credentials, got {scheme}://...@{bucket.rpartition('@')[2]}. "
            "Give them in the environment or a profile (docs/storage.md)"
        )
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UrlError(f"expected a local path or a URL of {known}, got {scheme}://{bucket}")
    if not bucket and scheme != "hdfs":
        raise UrlError(f"expected {scheme}://BUCKET/PATH, got {path}. Name the bucket")
    if scheme != "hdfs" and "//" in rest.rstrip("/"):
        raise UrlError(
            f"expected a URL without empty folder names ('//'), got {path}. Rename the object"
        )
    return path.rstrip("/")


def join(folder: StrPath, name: str) -> str:
    """Returns the path or URL of ``name`` in ``folder``."""
    return f"{os.fspath(folder).rstrip('/')}/{name}"


def resolve(folder: str, path: str) -> str:
    """Returns ``path``, taken relative to ``folder`` unless it is absolute or a URL, without ``..`` parts.

    Raises `UrlError` for a URL that no store can be asked about.
    """
    if not is_url(path) and not is_url(folder):
        return os.path.normpath(os.path.join(folder, path))
    url = check_path(path) if is_url(path) else f"{folder}/{path}"
    scheme, rest = url.split("://", 1)
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}{posixpath.normpath('/' + key).replace('//', '/')}".rstrip("/")


def absolute(path: str) -> str:
    """Returns ``path`` from the root of its file system; URLs already are."""
    return path if is_url(path) else os.path.abspath(path)


def folder_name(path: str) -> str:
    """Returns the name of the folder at ``path``; "" for the root of a file system."""
    return os.path.basename(path) if is_url(path) else Path(path).resolve().name


def relative(path: str, root: str) -> str:
    """Returns ``path`` relative to ``root``; the name for ``root`` itself.

    A path outside ``root`` only loses its leading slash or scheme, so that no record holds an absolute path.
    """
    root, path = absolute(root), absolute(path)
    if path == root:
        return os.path.basename(root)
    if path.startswith(f"{root.rstrip('/')}/"):
        return path[len(root.rstrip("/")) + 1 :]
    return path.split("://", 1)[1] if is_url(path) else path.lstrip(os.sep)


def is_inside(path: str, folder: str) -> bool:
    """Returns True if ``path`` is ``folder`` or lies below it, following links of local folders."""
    if is_url(path) or is_url(folder):
        return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    outer, inner = os.path.realpath(folder), os.path.realpath(path)
    return os.path.isdir(outer) and os.path.commonpath([outer, inner]) == outer


def fixed_prefix(pattern: str) -> str:
    """Returns the folders of ``pattern`` before the first that contains a glob character."""
    parts = pattern.split("/") if is_url(pattern) else Path(pattern).parts
    fixed = [*itertools.takewhile(lambda part: not glob.has_magic(part), parts)]
    return "/".join(fixed) if is_url(pattern) else str(Path(*fixed))
