"""The role of this host among several, known before TensorFlow is imported."""

from __future__ import annotations

import json
import os

from trainer.config.training import Distribute
from trainer.errors import TrainerError

CLUSTER = "TF_CONFIG"  # the variable from which TensorFlow reads the hosts
EXAMPLE = '{"cluster": {"worker": ["a:12345", "b:12345"]}, "task": {"type": "worker", "index": 0}}'


def is_chief(distribute: Distribute) -> bool:
    """Returns True if this host writes the results: it is the ``chief``, or the first worker without one."""
    text = os.environ.get(CLUSTER)
    if distribute not in ("auto", "multi_worker") or not text:
        return True
    try:
        fields = json.loads(text)
        cluster, task = fields["cluster"], fields["task"]
        kind, index = task["type"], int(task["index"])
        if set(cluster) - {"chief", "worker"} or not isinstance(cluster[kind][index], str):
            raise ValueError("expected workers and at most one chief")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TrainerError(
            f"the variable {CLUSTER} must name the hosts and the role of this one, as in {EXAMPLE}; got "
            f"{text} ({type(error).__name__}: {error})"
        ) from error
    return kind == "chief" or ("chief" not in cluster and index == 0)
