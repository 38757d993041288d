"""Numbers that depend only on names and seeds."""

from __future__ import annotations

import hashlib


def hash_fraction(*parts: object) -> float:
    """Returns a number in [0, 1) that depends only on ``parts``, and is uniform over different parts."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    # 53 bits fit a float's mantissa, so the result never rounds up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
