"""Opening an untrusted file, and what its headers claim.

A claim is never a fact: nothing is sized by a header, and what was decoded is told by
:class:`vidmod.media.reader.Reader`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from vidmod.errors import NotVideoError, SourceError, SourceUnreadableError, UndecodableError
from vidmod.media.facts import AudioTrack, Medium, Probe, TrackKind, VideoTrack
from vidmod.media.files import check_readable
from vidmod.media.hardware import accelerator
from vidmod.media.unlisted import unlisted_video

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
_MICROSECONDS = Fraction(1, 1_000_000)
_HEAD_BYTES = 4096
_MAX_UNLISTED = 20


def open_container(source: Path | Medium, *, edit_lists: bool = True) -> InputContainer:
    """Open a file with the demuxers of `FORMATS`, and with no protocol that leads to another.

    Args:
        source: A local file.
        edit_lists: Whether an MP4's edit lists are honoured, as players do.

    Raises:
        SourceError: The file is missing, unreadable, not media, or damaged beyond opening.
    """
    medium = Medium.of(source)
    if medium.descriptor is None:
        url, protocol, size = f"file:{medium.name}", "file", check_readable(Path(medium.name)).st_size
    else:
        url, protocol, size = "fd:", "fd", os.fstat(medium.descriptor).st_size
        os.lseek(medium.descriptor, 0, os.SEEK_SET)
    if size == 0:
        raise NotVideoError(f"{medium}: the file is empty (0 bytes). Get it again from where it came.")
    options = {
        "format_whitelist": ",".join(FORMATS),
        "protocol_whitelist": protocol,
        "enable_drefs": "0",
        "use_absolute_path": "0",
        "max_streams": str(medium.max_streams),
        "ignore_editlist": str(int(not edit_lists)),
    }
    if medium.descriptor is not None:
        options["fd"] = str(medium.descriptor)
    try:
        # Never a file object: only for its own protocols does FFmpeg keep to the whitelist.
        return av.open(
            url,
            "r",
            options={"max_pixels": str(medium.max_pixels)},
            container_options=options,
            metadata_errors="replace",
            hwaccel=None if medium.gpu is None else accelerator(medium.gpu),
        )
    except FFmpegError as exc:
        if medium.gpu is not None:
            # The GPU may be out of memory; whose pictures are whose is told by each of them.
            return open_container(dataclasses.replace(medium, gpu=None), edit_lists=edit_lists)
        raise _opening_error(medium, exc) from exc
    except UnicodeError as exc:
        raise SourceUnreadableError(f"{medium.name!r}: FFmpeg cannot open a name that is not UTF-8.") from exc
    except (ValueError, OverflowError, MemoryError) as exc:
        raise NotVideoError(f"{medium}: its headers make no sense ({exc}).") from exc


def _opening_error(path: Medium, exc: FFmpegError) -> SourceError:
    try:
        head = _head(path)
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


def _head(medium: Medium) -> bytes:
    """The first bytes of a file."""
    if medium.descriptor is not None:
        return os.pread(medium.descriptor, _HEAD_BYTES, 0)
    with Path(medium.name).open("rb") as file:
        return file.read(_HEAD_BYTES)


def _is_text(head: bytes) -> bool:
    try:
        # A multi-byte character may be cut at the end.
        head[: max(1, len(head) - 3)].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def probe(source: Path | Medium, alive: Callable[[], None] = lambda: None) -> Probe:
    """Read what the file's headers claim, and in some formats all of it for what they leave out.

    Args:
        source: A local file.
        alive: Called now and then while that goes on.

    Raises:
        SourceError: The file cannot be opened.
        NotVideoError: It holds no picture stream; the message says what it holds instead.
    """
    path = Medium.of(source)
    with open_container(path) as container:
        tracks = _tracks(container)
        if not tracks:
            kinds = sorted({stream.type for stream in container.streams})
            unlisted = unlisted_video(path, container, alive)
            if unlisted:
                raise UndecodableError(f"{path}: {unlisted[0]}, so it cannot be looked at.")
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
            unlisted=tuple(unlisted_video(path, container, alive)[:_MAX_UNLISTED]),
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
        average_rate=_rate(stream),
        time_base=time_base,
        start_pts=stream.start_time,
        duration_pts=None if kind == "cover" else duration,
        shares_duration=shared,
        frames=stream.frames,
    )


def _rate(stream: VideoStream) -> Fraction | None:
    """Frames per second, None where what is claimed makes no sense."""
    rate = stream.average_rate or stream.guessed_rate
    return rate if rate is not None and rate > 0 else None


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


def configure_decoder(stream: VideoStream, max_pixels: int, *, all_views: bool = False) -> None:
    """Set what every decoder here runs with; before its first packet.

    One thread: what a decoder makes of damage depends on how many it has, and side by side two
    decoders with one thread each are faster than one with two.
    """
    context = stream.codec_context
    context.thread_type = ThreadType.NONE
    context.thread_count = 1
    options = {"max_pixels": str(max_pixels)}
    if all_views:
        options["view_ids"] = "-1"
    context.options = options
