"""Which of several hosts this one is. No TensorFlow here, so that it is known before that is imported."""

from __future__ import annotations

import json
import os

from trainer.config.training import Distribute
from trainer.errors import TrainerError

CLUSTER = "TF_CONFIG"  # where TensorFlow looks for the hosts
EXAMPLE = '{"cluster": {"worker": ["a:12345", "b:12345"]}, "task": {"type": "worker", "index": 0}}'


def is_chief(distribute: Distribute) -> bool:
    """Whether this host writes the results: the one of type ``chief``, or else the first worker.

    Raises:
        TrainerError: when ``TF_CONFIG`` cannot be understood.
    """
    text = os.environ.get(CLUSTER)
    if distribute not in ("auto", "multi_worker") or not text:
        return True
    try:
        fields = json.loads(text)
        cluster, task = fields["cluster"], fields["task"]
        kind, place = task["type"], int(task["index"])
        address = cluster[kind][place]
        others = set(cluster) - {"chief", "worker"}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TrainerError(
            f"the variable {CLUSTER} must name the hosts and which of them this one is, as in {EXAMPLE}; got "
            f"{text} ({type(error).__name__}: {error})"
        ) from error
    if others or not isinstance(address, str):
        raise TrainerError(
            f"the variable {CLUSTER} must name workers, and a chief if you like, as in {EXAMPLE}; got {text}"
        )
    return kind == "chief" or ("chief" not in cluster and place == 0)
