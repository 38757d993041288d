"""Checks that this installation can decode at all, so that a broken one is not taken for broken footage."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator

from pipelines.decoding.client import shared_pool
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.errors import UserError
from pipelines.options.dataset import ImageOptions, RunOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from tfrecords_schema.spec import SequenceSpec

_DISTRIBUTION = "reelbeam"
_SHOWN = ("av", "numpy", "opencv-python-headless")
_SIDE = 16  # pixels
# A YUV4MPEG2 file of two frames, which needs no encoder.
_CLIP = f"YUV4MPEG2 W{_SIDE} H{_SIDE} F25:1 Ip A1:1 C420jpeg\n".encode() + 2 * (
    b"FRAME\n" + bytes([128]) * (_SIDE * _SIDE * 3 // 2)
)


def check_decoder(run: RunOptions) -> None:
    """Builds a tiny clip in a decoder of the shared pool, which stays for what follows.

    Raises:
        UserError: when that fails; it names the packages whose versions do not fit.
    """
    pool = shared_pool(run.decode_timeout, run.staging_size)
    with tempfile.NamedTemporaryFile(suffix=".y4m") as file:
        file.write(_CLIP)
        file.flush()
        try:
            with pool.borrow() as decoder:
                decoder.build(_request(file.name), lambda record: None)
        except DecodingFailure as failure:
            raise UserError(
                f"this installation cannot decode a test clip, so no footage was tried: "
                f"{failure.reason} (stage {failure.stage}); {_describe_installation()}"
            ) from failure


def _request(path: str) -> BuildRequest:
    image = ImageOptions(size=(_SIDE // 2, _SIDE // 2))
    source = Source(id="preflight", path=path, data_path="preflight", group="")
    return BuildRequest(
        segment=Segment(source=source),
        spec=SequenceSpec(num_frames=2, image=image.spec),
        dataset_name="preflight",
        sampling=SamplingOptions(num_frames=2),
        image=image,
    )


def _describe_installation() -> str:
    wrong = list(_find_wrong_versions())
    if wrong:
        return f"{'; '.join(wrong)}: install what is needed (pip install --upgrade {_DISTRIBUTION})"
    shown = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in _SHOWN)
    return (
        f"the versions installed are among those that {_DISTRIBUTION} declares ({shown}): reinstall them, or "
        "set up a new virtual environment"
    )


def _find_wrong_versions() -> Iterator[str]:
    """Yields the packages that are missing or of another version than this package's metadata demands."""
    from packaging.requirements import Requirement

    try:
        declared = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return  # a checkout that is not installed declares nothing
    for requirement in map(Requirement, declared):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _installed(requirement.name)
        if version is None:
            yield f"{requirement.name} is not installed, {requirement} is needed"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is installed, {requirement} is needed"


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
