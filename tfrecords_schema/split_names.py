"""Names of splits as people write them, and the names that datasets use."""

from __future__ import annotations

_STANDARD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def standard_split(name: str) -> str | None:
    """Returns ``train``, ``validation`` or ``test`` for a usual name of it in any case, such as ``Val``.

    Another name gives None.
    """
    return _STANDARD.get(name.strip().lower())
