"""What a process inherits from its surroundings and must not depend on: proxies for its own machine."""

from __future__ import annotations

import os

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_NO_GRPC_PROXY = "no_grpc_proxy"


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
