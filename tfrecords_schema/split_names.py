"""Names of splits as people write them, and the names that datasets use."""

from __future__ import annotations

import re

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


_FILE_SPLITS = {"validate": "validation", "eval": "validation"}
_FILE_WORDS = {"tfrecord", "tfrecords", "tfrec", "of", "shard", "part", "gz", "zlib"}


def split_of_file(name: str) -> str | None:
    """Returns the split in the name of a file: ``validation`` for ``val-00000-of-00002``, else None.

    Only whole words count: ``hmdbTrain`` has one, ``latest`` has none. If several splits are named, the last
    word decides, because the number of the shard follows it: ``test_drive_train-00000-of-00002`` is train.

    Raises:
        ValueError: if several splits are named and the last word is none of them.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    splits = [standard_split(_FILE_SPLITS.get(w, w)) for w in words if w not in _FILE_WORDS]
    found = [split for split in splits if split]
    if len(set(found)) > 1 and splits[-1] is None:
        named = " and ".join(sorted(set(found)))
        raise ValueError(
            f"{name}: expected the name of one split in this file name, found {named}. "
            "Put the split last, such as data-train-00000-of-00008.tfrecord"
        )
    return found[-1] if found else None
