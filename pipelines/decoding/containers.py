"""Opens untrusted video files: only local ones, only formats listed here, within limits."""

from __future__ import annotations

import sys
import time
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.pyav import DECODING_ERRORS, LENIENT
from tfrecords_schema.spec import MAX_PIXELS

# Demuxers that read one file and nothing else. Playlists, concatenation scripts and image-sequence patterns
# refer to other files or addresses, and are not among them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,asf,gif,ogg,mjpeg,mxf,rm,dv,nut,yuv4mpegpipe,vc1,h263,h261,cavsvideo,wtv,swf"
)

# Demuxers of streams without a container, which have no times.
_RAW_FORMATS = [
    "mpegvideo",
    "m4v",
    "h264",
    "hevc",
    "av1",
    "obu",
    "mjpeg",
    "vc1",
    "h263",
    "h261",
    "cavsvideo",
]

_SILENCE = "no answer for the seconds of --decode_timeout"
_RAW_JPEG = (".mjpeg", ".mjpg")

# Decoders that return the same frames with any number of threads, or report damage. HEVC is not among them:
# its decoder conceals some damage silently, depending on the threads.
_THREADED_CODECS = ("h264",)


def open_container(
    path: str, *, header_only: bool = False, rate: Fraction | None = None
) -> InputContainer:
    """Opens a local file, and no other file that it refers to.

    ``rate`` is that of a stream that states none (`states_rate`).

    With ``header_only``, FFmpeg does not decode the first frames, from which it learns how far frames are
    reordered and the format of their pixels.

    Raises:
        DecodingFailure: if the file cannot be read or has no known format.
    """
    try:
        container: InputContainer = av.open(
            f"file:{path}",
            # Otherwise FFmpeg takes the first picture of raw Motion JPEG for a still image.
            format="mjpeg" if path.lower().endswith(_RAW_JPEG) else None,
            options={"skip_frame": "all"} if header_only else {},
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": _FORMATS,
                **({} if rate is None else {"framerate": str(rate)}),
            },
            **LENIENT,
        )
    except DECODING_ERRORS as error:
        raise DecodingFailure("open", describe_error(error)) from error
    return container


def open_live(address: str, timeout: float) -> InputContainer:
    """Opens a camera or a stream, which cannot refer to files; raises `DecodingFailure` if that fails."""
    device = None if "://" in address else "avfoundation" if sys.platform == "darwin" else "v4l2"
    if device == "v4l2" and address.isdecimal():
        address = f"/dev/video{int(address)}"
    options = {
        "protocol_whitelist": "http,https,httpproxy,tcp,tls,udp,rtp,srtp",
        "format_whitelist": f"{_FORMATS},mpjpeg,rtsp,v4l2,avfoundation",
        "rtsp_flags": "prefer_tcp",  # which loses no packets
    }
    since, limits = time.monotonic(), (timeout, timeout)
    try:
        return av.open(address, "r", device, container_options=options, timeout=limits, **LENIENT)
    except DECODING_ERRORS as error:
        is_silent = time.monotonic() - since >= timeout  # for which RTSP has other errors
        reason = _SILENCE if is_silent else describe_error(error)
        raise DecodingFailure("open", f"{reason} (expected a camera or video)") from error


def states_rate(container: InputContainer, stream: VideoStream) -> bool:
    """Returns False for a raw stream whose codec states no rate: the demuxer's own is a mere default."""
    return container.format.name not in _RAW_FORMATS or bool(stream.codec_context.framerate)


def choose_stream(container: InputContainer, number: int | None = None) -> VideoStream:
    """Returns the video stream of that number, or the best one, and discards the other streams.

    The best one is no picture, which has one frame; the default one, if the file names it; and the largest.

    Raises:
        DecodingFailure: if there is none, its codec is unknown, or its frames are too large.
    """
    streams = list(container.streams.video)
    videos = [own for own in streams if not own.disposition & Disposition.attached_pic]
    if number is not None and number >= len(streams) > 0:
        raise DecodingFailure(
            "open",
            f"--video_stream must be the number of a video stream, of which the file has {len(streams)} "
            f"(the first is 0), got {number}",
        )
    if not (videos or (streams and number is not None)):
        raise DecodingFailure("open", "the file contains no video stream")
    stream = max(videos, key=_preference) if number is None else streams[number]
    if stream.codec_context is None:
        raise DecodingFailure("open", "the video's codec is unknown")
    check_pixels(stream.codec_context.width, stream.codec_context.height)
    # One thread per child, because there is one child per CPU. `use_threads` uses idle CPUs.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {
        "max_pixels": str(MAX_PIXELS),
        # More checks than decoding needs. With them MPEG-4 and related codecs notice much more damage.
        "err_detect": "crccheck+bitstream",
    }
    stream.codec_context.copy_opaque = True  # to tell which packet a frame is from
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _preference(stream: VideoStream) -> tuple[bool, bool, int]:
    """Returns a key whose maximum is the best stream; `max` takes the first of equal ones."""
    codec = stream.codec_context
    size = 0 if codec is None else codec.width * codec.height
    return stream.frames != 1, bool(stream.disposition & Disposition.default), size


def use_threads(stream: VideoStream, threads: int) -> None:
    """Decodes several frames at once if the codec supports it.

    Errors come late then, and messages concern another packet than the one being decoded. Only undamaged
    footage may therefore be decoded with several threads.
    """
    if threads > 1 and stream.codec_context.name in _THREADED_CODECS:
        stream.codec_context.thread_type = "FRAME"
        stream.codec_context.thread_count = threads


def check_pixels(width: int, height: int) -> None:
    """Raises a `DecodingFailure` for a frame of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise DecodingFailure(
            "limits", f"a frame of {width}x{height} pixels exceeds the limit of {MAX_PIXELS} pixels"
        )


def describe_error(error: Exception) -> str:
    """Returns FFmpeg's description of an error, without the path that PyAV appends (it may be private)."""
    if isinstance(error, av.error.ExitError):
        return _SILENCE
    if isinstance(error, av.FFmpegError):
        return str(error.strerror or error)
    return f"{type(error).__name__}: {error}"
