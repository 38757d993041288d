"""Protects a process from its environment: the locale's encoding, and proxies for its own machine."""

from __future__ import annotations

import locale
import os
import sys

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_NO_GRPC_PROXY = "no_grpc_proxy"


def use_utf8() -> None:
    """Restarts this program in Python's UTF-8 mode, which children inherit, if its locale is not UTF-8.

    In another encoding the same folder would give other names of files, and another dataset.
    """
    os.environ["PYTHONUTF8"] = "1"
    encodings = {sys.getfilesystemencoding(), locale.getpreferredencoding(False)}
    if all(encoding.lower().replace("-", "") == "utf8" for encoding in encodings):
        return
    option = ["-X", "utf8"]  # works even if Python ignores its environment variables
    program = sys.orig_argv[1:]
    # A program that was read from standard input cannot be read again.
    if program[:2] != option and sys.argv[0] not in ("", "-"):
        os.execv(sys.executable, [sys.executable, *option, *program])  # noqa: S606 - itself


def reach_this_machine_directly() -> None:
    """Excludes this machine from the proxies in the environment, for this process and its children.

    Otherwise gRPC would call workers and job servers on this machine through a proxy that cannot reach them.
    """
    # Programs that read both variables prefer the lower-case one.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # gRPC reads this variable, and no_proxy only if it is not set.
    os.environ[_NO_GRPC_PROXY] = _with_this_machine(os.environ.get(_NO_GRPC_PROXY) or given)
    if given.strip() != "*":  # "*" excludes everything, but only alone
        os.environ["no_proxy"] = _with_this_machine(given)


def _with_this_machine(hosts: str) -> str:
    listed = [host.strip() for host in hosts.split(",") if host.strip()]
    return ",".join([*listed, *(host for host in _THIS_MACHINE if host not in listed)])
