"""Writes the page, an HTML file with the pictures in it; beyond a limit they are in a folder beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.browsing.sequences import choose_sequences, describe_sequence
from pipelines.errors import UsageError, UserError
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import is_url
from tfrecords_schema.reading.dataset import SequenceSplit, open_dataset
from tfrecords_schema.report.pages import plural, printable, render_page
from tfrecords_schema.storage import make_folder, replacing, write_bytes
from tfrecords_schema.tables import describe_label

MAX_SEQUENCES = 10_000
MAX_BYTES = 64 * 2**20
"""Bytes of the pictures that are in the page itself; browsers open a larger one slowly."""
_PLACE = "DATA"
_END = "</script>"
_PICTURE = re.compile(r"\d{5}\.jpg")


def write_page(directory: str, path: str) -> str:
    """Writes a page to browse the sequences of a dataset; returns a line that says what is on it.

    Raises:
        UserError: if ``path`` is not local, the records hold no images, a shard is missing, or the folder for
            pictures holds other files.
    """
    if is_url(path):
        raise UsageError(f"--page must be a local file, got {path}")
    try:
        splits = open_dataset(directory)
        info = DatasetInfo.load(directory)
        if info.spec.image is None:
            raise UserError("--page shows frames, and the records of this dataset hold none")
        chosen = choose_sequences(info, MAX_SEQUENCES)
        return _write(Path(path), splits, info, chosen)
    except DatasetInfoError as error:
        raise UserError(f"--tfrecords: {error}") from error


def _write(
    path: Path,
    splits: Mapping[str, SequenceSplit],
    info: DatasetInfo,
    chosen: Mapping[str, Sequence[int]],
) -> str:
    count, stated = (
        sum(map(len, chosen.values())),
        sum(split.num_records for split in info.splits.values()),
    )
    which = plural(count, "sequence")
    which += f", evenly spaced among {stated:,}" if count < stated else ""
    pictures = _Pictures(path.with_name(f"{path.stem}_pictures"))
    text = _render(info, f"{which}; {describe_label(info.spec.label)}")
    # Names in the page are escaped, so that none of them holds the end of an element.
    head, tail = text.split(_PLACE + _END)
    damaged = 0
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(head + _to_json(_describe_dataset(info))[:-1] + ', "sequences": [\n')
        separator = ""
        for said, picture in _describe(splits, chosen):
            damaged += picture is None
            if picture is not None:
                said["picture"] = pictures.add(picture)
            file.write(separator + _to_json(said))
            separator = ",\n"
        file.write("]}" + _END + tail)
    beside = f", with pictures in {pictures.folder}" if pictures.is_folder_used else ""
    lost = f"; {plural(damaged, 'damaged record')} named on it" if damaged else ""
    return f"page: {path}{beside}: {which}{lost}"


def _render(info: DatasetInfo, description: str) -> str:
    # The script's hash admits it alone. The template leaves out the end of its last line.
    script = Path(__file__).with_name("page.js").read_bytes().removesuffix(b"\n")
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return render_page(
        __package__,
        "page.html",
        title=f"{info.name}: sequences",
        description=description,
        script_hash=f"sha256-{digest}",
        data=_PLACE,
    )


def _describe_dataset(info: DatasetInfo) -> dict[str, Any]:
    label, image = info.spec.label, info.spec.image
    assert image is not None
    return {
        "width": image.width,
        "height": image.height,
        "splits": list(info.splits),
        "classes": label.class_names,
        "targets": label.target_names,
    }


def _describe(
    splits: Mapping[str, SequenceSplit], chosen: Mapping[str, Sequence[int]]
) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    for name, indices in chosen.items():
        # Damage may hide records at the end of a shard.
        for index in indices[: len(splits[name])]:
            yield describe_sequence(splits[name], index)


def _to_json(value: Any) -> str:
    """Returns JSON to stand inside a script element, which nothing in it ends."""
    return json.dumps(_printable(value)).replace("<", "\\u003c")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list | tuple) else value


class _Pictures:
    """The pictures of a page: addresses that hold them as long as there are few, then files in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.is_folder_used = False
        self._bytes = 0
        self._files = 0

    def add(self, jpeg: bytes) -> str:
        """Returns the address of a picture."""
        self._bytes += len(jpeg)
        if self._bytes <= MAX_BYTES:
            return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        if not self.is_folder_used:
            self._make_folder()
        name = f"{self._files:05}.jpg"
        self._files += 1
        write_bytes(self.folder / name, jpeg)
        return f"{quote(self.folder.name)}/{name}"

    def _make_folder(self) -> None:
        make_folder(self.folder, inside=self.folder.parent)
        others = [each.name for each in self.folder.iterdir() if not _PICTURE.fullmatch(each.name)]
        if others:
            raise UserError(
                f"{self.folder} must be a folder for the pictures of --page alone, and holds "
                f"{printable(others[0])}: move it, or name another page"
            )
        self.is_folder_used = True
