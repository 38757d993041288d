"""Independence of what a process inherits: the locale's encoding, and proxies for its own machine."""

from __future__ import annotations

import locale
import os
import sys

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_NO_GRPC_PROXY = "no_grpc_proxy"


def use_utf8() -> None:
    """Starts this program again in Python's UTF-8 mode if its locale is of another encoding.

    Names of files are UTF-8 wherever records and labels come from them. In any other encoding the same folder
    would give other names, and another dataset. For programs only, before they do anything; processes that
    they start are in the same mode.
    """
    os.environ["PYTHONUTF8"] = "1"
    encodings = {sys.getfilesystemencoding(), locale.getpreferredencoding(False)}
    if all(encoding.lower().replace("-", "") == "utf8" for encoding in encodings):
        return
    option = ["-X", "utf8"]  # counts where Python was told not to read its variables
    program = sys.orig_argv[1:]
    # A program that was read from standard input cannot be read again.
    if program[:2] != option and sys.argv[0] not in ("", "-"):
        os.execv(sys.executable, [sys.executable, *option, *program])  # noqa: S606 - itself


def reach_this_machine_directly() -> None:
    """Excepts this machine from the proxies in the environment, for this process and those it starts.

    gRPC would reach workers and job servers on this machine by ``http_proxy``, which cannot reach them back.
    All other traffic, such as an object store's, takes the user's proxies and exceptions as before.
    """
    # Programs that read both prefer the lower-case name.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # gRPC reads this variable first, and the other one only without it.
    os.environ[_NO_GRPC_PROXY] = _with_this_machine(os.environ.get(_NO_GRPC_PROXY) or given)
    if given.strip() != "*":  # with anything beside it, it would no longer except everything
        os.environ["no_proxy"] = _with_this_machine(given)


def _with_this_machine(hosts: str) -> str:
    listed = [host.strip() for host in hosts.split(",") if host.strip()]
    return ",".join([*listed, *(host for host in _THIS_MACHINE if host not in listed)])
