"""Files that are complete whenever they are there."""

from __future__ import annotations

import uuid
from pathlib import Path


def write_atomically(target: Path, data: bytes) -> None:
    """Writes a file that is complete whenever it is there."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
