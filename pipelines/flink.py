"""What is asked of a Flink cluster itself, by its REST interface: its free slots, and to end a job.

Beam's job server submits jobs and forgets to cancel them: without this, an interrupted build would go on.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from pipelines.errors import UserError

EMBEDDED = ("[local]", "[auto]")
"""Values of ``--flink_master`` that name no cluster."""
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class FlinkCluster:
    """A cluster; ``master`` is ``host:port`` of its job manager's REST interface, or a URL."""

    master: str

    def free_slots(self) -> int:
        """How many tasks could begin at once; at least 1.

        Raises:
            UserError: when no cluster answers.
        """
        return max(1, int(self._ask("/overview", "slots-available")))

    def cancel(self, name: str) -> None:
        """Cancels the jobs called ``name`` that have not ended.

        Raises:
            UserError: when no cluster answers.
        """
        for job in self._ask("/jobs/overview", "jobs"):
            if job["name"] == name and job["end-time"] < 0:
                self._ask(f"/jobs/{job['jid']}?mode=cancel", method="PATCH")

    def _ask(self, path: str, key: str | None = None, *, method: str = "GET") -> Any:
        """What Flink answers, or what is under ``key`` in it."""
        has_scheme = self.master.startswith(("http://", "https://"))
        url = self.master if has_scheme else f"http://{self.master}"
        request = urllib.request.Request(url.rstrip("/") + path, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
                answer = json.load(response)
            return answer if key is None else answer[key]
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"no Flink cluster answers at {url} ({error!r}): start one, or give --flink_master the "
                "host:port of its job manager's REST interface"
            ) from error
