"""Opening an untrusted file, and what its headers claim.

A claim is never a fact: nothing is sized by a header, and what was decoded is told by
:class:`vidmod.media.reader.Reader`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from vidmod.errors import NotVideoError, SourceError, SourceNotFoundError, SourceUnreadableError, UndecodableError

# FFmpeg's own logging, silent. PyAV's takes the interpreter's lock for every error, in decoding
# threads too; whoever waits for such a thread with the lock held then waits for ever.
_AV_LOG_QUIET = -8
av.logging.restore_default_callback()
av.logging.set_libav_level(_AV_LOG_QUIET)

# Demuxers that read one file and nothing else. Playlists (hls, concat, sdp, image2 …) are left
# out on purpose: they open further files and connections that the text inside them names.
FORMATS = (
    "mov", "mp4", "matroska", "webm", "avi", "flv", "live_flv", "mpegts", "mpeg", "mpegvideo", "asf", "ogg",
    "gif", "apng", "nut", "mxf", "rm", "dv", "ivf", "obu", "av1", "h264", "hevc", "m4v", "yuv4mpegpipe", "wtv",
    "jpeg_pipe", "png_pipe", "webp", "webp_pipe", "bmp_pipe", "tiff_pipe", "avif", "jpegxl_pipe", "gif_pipe",
    "mp3", "aac", "wav", "flac", "amr",
)  # fmt: skip
STILL_FORMATS = frozenset(name for name in FORMATS if name.endswith("_pipe")) - {"yuv4mpegpipe"}

# Formats whose header says how long each track is; the others estimate it from the file's end.
_DECLARES_DURATION = ("mov", "matroska", "avi", "flv", "asf", "mxf", "nut")
# In these the duration is counted from time 0, not from where the stream starts.
_DURATION_IS_END = ("matroska", "flv")
# A film has one or two video tracks and some dozens of sound and subtitle tracks.
_MAX_STREAMS = 200
# 16384 × 16384, far above 8K; a decoder asks for some 12 bytes a pixel.
MAX_PIXELS = 1 << 28
_MICROSECONDS = Fraction(1, 1_000_000)
# A claimed rate outside of these is damage, or a clock's rate and not the pictures'.
_SLOWEST_RATE, _FASTEST_RATE = Fraction(1, 60), 1000
_USUAL_RATE = Fraction(25)
# Beyond this many, frame threads cost memory and bring no speed.
_MAX_THREADS = 16

TrackKind = Literal["video", "cover", "view", "hidden"]


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """A picture stream as its headers claim it.

    Attributes:
        index: The stream's number in the file.
        kind: `video`; `cover` for attached pictures; `view` for the further views of a
            multiview stream (a second eye); `hidden` for what an edit list keeps from being shown
            by players that honour it.
        codec: FFmpeg's decoder name.
        size: Stored (width, height), before rotation.
        pixel_format: FFmpeg's name, None where no picture could be probed.
        average_rate: Frames per second.
        time_base: Seconds per pts unit.
        start_pts: First presentation time, None if unknown.
        duration_pts: Claimed length, None if the format makes no claim that can be held to.
        shares_duration: The claim is for the file as a whole; the sound may be what is that long.
        frames: Claimed number of packets, 0 if unknown; for `hidden`, how many of them there are.
    """

    index: int
    kind: TrackKind
    codec: str
    size: tuple[int, int]
    pixel_format: str | None
    average_rate: Fraction | None
    time_base: Fraction
    start_pts: int | None
    duration_pts: int | None
    shares_duration: bool
    frames: int

    @property
    def frame_duration_pts(self) -> int:
        """How long one frame is shown at the average rate, if that is credible; at least one unit."""
        rate = self.average_rate
        if rate is None or not _SLOWEST_RATE <= rate <= _FASTEST_RATE:
            rate = _USUAL_RATE
        return max(1, round(1 / rate / self.time_base))


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """A sound stream as its headers claim it."""

    codec: str
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file's headers claim.

    Attributes:
        tracks: Picture streams; the first is the one that a player would show.
        start_seconds, duration_seconds: Of the file as a whole, None if unknown.
        still: Whether the file is a single image.
    """

    format: str
    start_seconds: Fraction | None
    duration_seconds: Fraction | None
    tracks: tuple[VideoTrack, ...]
    audio: tuple[AudioTrack, ...]
    still: bool


def check_readable(path: Path) -> os.stat_result:
    """The file's stat, if it is a regular file that can be read.

    Raises:
        SourceNotFoundError, SourceUnreadableError, NotVideoError: Each names the file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise NotVideoError(f"{path}: is a folder, not a video.")
        if not stat.S_ISREG(status.st_mode):
            # Not even opened: that waits for ever where nobody writes into a pipe.
            raise NotVideoError(f"{path}: is a pipe or a device, not a file. Copy what it gives into a file.")
        with path.open("rb"):
            pass
    except FileNotFoundError as exc:
        raise SourceNotFoundError(f"{path}: there is no such file. Check the path.") from exc
    except OSError as exc:
        raise SourceUnreadableError(f"{path}: cannot be read ({exc.strerror}). Check its permissions.") from exc
    except ValueError as exc:  # a null character in the name
        raise SourceNotFoundError(f"{path}: there is no such file ({exc}). Check the path.") from exc
    return status


def open_container(path: Path, *, edit_lists: bool = True) -> InputContainer:
    """Open a local file with the demuxers of `FORMATS` and no protocol but `file:`.

    Args:
        path: A local file.
        edit_lists: Whether an MP4's edit lists are honoured, as players do.

    Raises:
        SourceError: The file is missing, unreadable, not media, or damaged beyond opening.
    """
    if check_readable(path).st_size == 0:
        raise NotVideoError(f"{path}: the file is empty (0 bytes). Get it again from where it came.")
    options = {
        "format_whitelist": ",".join(FORMATS),
        "protocol_whitelist": "file",
        "enable_drefs": "0",
        "use_absolute_path": "0",
        "max_streams": str(_MAX_STREAMS),
        "ignore_editlist": str(int(not edit_lists)),
    }
    try:
        # A path, never a file object: only for a path does FFmpeg keep to the protocol whitelist.
        return av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace")
    except FFmpegError as exc:
        raise _opening_error(path, exc) from exc
    except UnicodeError as exc:
        raise SourceUnreadableError(f"{str(path)!r}: FFmpeg cannot open a name that is not UTF-8. Rename it.") from exc
    except (ValueError, OverflowError, MemoryError) as exc:
        raise NotVideoError(f"{path}: its headers make no sense ({exc}).") from exc


def _opening_error(path: Path, exc: FFmpegError) -> SourceError:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        return SourceUnreadableError(f"{path}: cannot be read ({error.strerror}).")
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip"):
        return UndecodableError(
            f"{path}: an MP4 or QuickTime file without its index (moov), so no frame can be found. "
            "The upload or recording was cut off: get the whole file."
        )
    if b"\0" not in head and _is_text(head):
        return NotVideoError(f"{path}: is text, not a video.")
    return NotVideoError(f"{path}: is not a video or image that vidmod reads ({exc.strerror}).")


def _is_text(head: bytes) -> bool:
    try:
        # A multi-byte character may be cut at the end.
        head[: max(1, len(head) - 3)].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def probe(path: Path) -> Probe:
    """Read what the file's headers claim.

    Raises:
        SourceError: The file cannot be opened.
        NotVideoError: It holds no picture stream; the message says what it holds instead.
    """
    with open_container(path) as container:
        tracks = _tracks(container)
        if not tracks:
            kinds = sorted({stream.type for stream in container.streams})
            if "audio" in kinds:
                raise NotVideoError(f"{path}: has sound but no video.")
            raise NotVideoError(f"{path}: holds no video (streams: {', '.join(kinds) or 'none'}).")
        audio = tuple(
            AudioTrack(stream.codec_context.name, stream.codec_context.sample_rate, stream.codec_context.channels)
            for stream in container.streams.audio
            if stream.codec_context is not None
        )
        start, duration = container.start_time, _file_duration(container)
        return Probe(
            format=container.format.name,
            start_seconds=None if start is None else start * _MICROSECONDS,
            duration_seconds=None if duration is None else duration * _MICROSECONDS,
            tracks=tracks,
            audio=audio,
            still=container.format.name in STILL_FORMATS or _is_still(container),
        )


def _is_still(container: InputContainer) -> bool:
    brand = container.metadata.get("major_brand", "")
    return brand in ("avif", "mif1", "heic", "heix") and container.duration is None


def _tracks(container: InputContainer) -> tuple[VideoTrack, ...]:
    """Every picture stream, the one a player would show first."""
    streams = sorted(container.streams.video, key=_preference)
    tracks = [_track(container, stream, "cover" if _is_cover(stream) else "video") for stream in streams]
    tracks += [_track(container, stream, "view") for stream in streams if stream.disposition & Disposition.multilayer]
    return tuple(tracks)


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _preference(stream: VideoStream) -> tuple[bool, bool, bool, int]:
    """As players choose: no cover art, something to decode, marked default, first."""
    empty = stream.codec_context is None or stream.codec_context.pix_fmt is None
    return (_is_cover(stream), empty, not stream.disposition & Disposition.default, stream.index)


def _track(container: InputContainer, stream: VideoStream, kind: TrackKind) -> VideoTrack:
    context = stream.codec_context
    time_base = stream.time_base or _MICROSECONDS
    duration, shared = _declared_duration(container, stream, time_base)
    return VideoTrack(
        index=stream.index,
        kind=kind,
        codec="unknown" if context is None else context.name,
        size=(0, 0) if context is None else (context.width, context.height),
        pixel_format=None if context is None else context.pix_fmt,
        average_rate=stream.average_rate or stream.guessed_rate,
        time_base=time_base,
        start_pts=stream.start_time,
        duration_pts=None if kind == "cover" else duration,
        shares_duration=shared,
        frames=stream.frames,
    )


def _file_duration(container: InputContainer) -> int | None:
    """How long the file claims to be, in microseconds."""
    duration = container.duration
    if duration is not None and container.format.name.startswith(_DURATION_IS_END):
        return max(0, duration - (container.start_time or 0))
    return duration


def _declared_duration(container: InputContainer, stream: VideoStream, time_base: Fraction) -> tuple[int | None, bool]:
    """The claimed length in pts, and whether it is the whole file's instead of the track's."""
    if not container.format.name.startswith(_DECLARES_DURATION):
        return None, False
    if stream.duration:
        return stream.duration, False
    end = _tagged_duration(stream.metadata.get("DURATION", ""), time_base)
    if end is not None:
        return max(0, end - (stream.start_time or 0)), False
    duration = _file_duration(container)
    return (None, False) if duration is None else (round(duration * _MICROSECONDS / time_base), True)


def _tagged_duration(tag: str, time_base: Fraction) -> int | None:
    """Matroska's per-track DURATION tag, `00:00:02.966000000`."""
    try:
        hours, minutes, seconds = tag.split(":")
        return round((int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) / time_base)
    except ValueError:
        return None


def configure_decoder(stream: VideoStream, threads: int, *, all_views: bool = False) -> None:
    """Set what every decoder here runs with; before its first packet.

    Frame threads only. With more than one, damage is an error instead of being patched: what
    is patched, and how, depends on the number of threads.
    """
    context = stream.codec_context
    threads = min(threads, _MAX_THREADS)
    context.thread_type = ThreadType.FRAME if threads > 1 else ThreadType.NONE
    context.thread_count = threads
    context.copy_opaque = True
    options = {"max_pixels": str(MAX_PIXELS)}
    if threads > 1:
        options["err_detect"] = "explode"
    if all_views:
        options["view_ids"] = "-1"
    context.options = options


def release(container: InputContainer) -> None:
    """Close a container whose decoder may still be at work.

    A decoding thread that drops a packet asks for the interpreter's lock where the packet carries
    a Python object (`opaque`); freeing the decoder waits for that thread with the lock held.
    Flushing waits for it without, so that nothing is under way when the decoder is freed.
    """
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.flush_buffers()
    container.close()
