"""Opening video files without trust: only local ones, only as formats listed here, within limits."""

from __future__ import annotations

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.pyav import open_input

# Demuxers that read one file and nothing else. Playlists, concatenation scripts, image-sequence patterns and
# whatever refers to other files or addresses are not among them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,asf,gif,ogg,mjpeg,mxf,rm,dv,nut,yuv4mpegpipe,vc1,h263,h261,cavsvideo,wtv,swf"
)

# Decoders that give the same frames with any number of threads, or complain of damage. Not that of HEVC: it
# conceals some damage without a word, and differently.
_THREADED_CODECS = ("h264",)

MAX_PIXELS = 8192 * 8192
"""Most pixels a frame may have: beyond 8K video, far below what would exhaust memory."""


def open_container(path: str, *, header_only: bool = False) -> InputContainer:
    """Opens the local file at ``path``; nothing that it refers to is opened.

    Args:
        path: of the file.
        header_only: nothing will be decoded. Otherwise the first frames are, at once, for what only they
            tell: how far decoding reorders frames, and their pixels' format.

    Raises:
        DecodingFailure: when it cannot be read or is of no known format.
    """
    try:
        return open_input(
            f"file:{path}",
            options={"skip_frame": "all"} if header_only else {},
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": _FORMATS,
            },
        )
    except (av.FFmpegError, ValueError) as error:
        raise DecodingFailure("open", describe_error(error)) from error


def choose_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no attached picture, ready to be decoded; the others are not read.

    Raises:
        DecodingFailure: when there is none, its codec is unknown, or its frames are too large.
    """
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise DecodingFailure("open", "the file holds no video stream")
    stream = streams[0]
    if stream.codec_context is None:
        raise DecodingFailure("open", "the video's codec is unknown")
    check_pixels(stream.codec_context.width, stream.codec_context.height)
    # One thread a child: the pool has a child for each CPU. See `use_threads` for when some are idle.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {
        "max_pixels": str(MAX_PIXELS),
        # What else is wrong than what decoders cannot do without: MPEG-4 and its kin notice much more damage.
        "err_detect": "crccheck+bitstream",
    }
    stream.codec_context.copy_opaque = True  # frames know their packets
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def use_threads(stream: VideoStream, threads: int) -> None:
    """Decodes several frames at once, where the codec can.

    What is complained of while a packet is decoded is then about another one, and errors come late. So it
    is for footage without damage.
    """
    if threads > 1 and stream.codec_context.name in _THREADED_CODECS:
        stream.codec_context.thread_type = "FRAME"
        stream.codec_context.thread_count = threads


def check_pixels(width: int, height: int) -> None:
    """Checks the size of a frame.

    Raises:
        DecodingFailure: when it has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise DecodingFailure(
            "limits", f"a frame of {width}x{height} pixels exceeds the limit of {MAX_PIXELS}"
        )


def describe_error(error: Exception) -> str:
    """What FFmpeg says went wrong."""
    # PyAV appends the path, which says nothing new and may be private.
    return str(getattr(error, "strerror", None) or error)
