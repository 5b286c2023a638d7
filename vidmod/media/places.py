"""Where streams come from and go to, by their URLs. Nothing is opened here."""

from __future__ import annotations

from vidmod.errors import UsageError
from vidmod.urls import without_secrets

# What is read from where, and by which of FFmpeg's protocols; a playlist names others of the same kind only.
PROTOCOLS = {
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "http": "http,tcp,crypto",
    "https": "https,tls,tcp,crypto",
    "rtsp": "rtsp,rtp,tcp,udp",
    "tcp": "tcp",
    "udp": "udp",
    "file": "file",
}
# FFmpeg writes files 256 KiB at a time: a process that is killed loses that much, and a full disk is noticed as late.
_AT_ONCE = {"flush_packets": "1"}


def scheme_of(url: str) -> str:
    """The scheme of a source's URL; `file` for a path.

    Raises:
        UsageError: Nothing is read from such a URL.
    """
    scheme = url_scheme(url) or "file"
    if scheme not in PROTOCOLS:
        raise UsageError(f"Invalid source ({told(url)}). Use a file, or a URL of {', '.join(PROTOCOLS)}.")
    return scheme


def output_format(url: str) -> tuple[str, dict[str, str]]:
    """FFmpeg's muxer for an output's URL, and its options.

    Raises:
        UsageError: Nothing is written to such a URL.
    """
    scheme = url_scheme(url)
    if scheme in ("rtmp", "rtmps"):
        return "flv", {"flvflags": "no_duration_filesize"}
    if scheme in ("tcp", "udp"):
        return "mpegts", {"mpegts_flags": "resend_headers"}
    suffix = url.rpartition(".")[2].lower()
    known = {
        "m3u8": ("hls", {"hls_time": "2", "hls_flags": "delete_segments+temp_file"}),
        "ts": ("mpegts", _AT_ONCE),
        "flv": ("flv", _AT_ONCE),
        "mkv": ("matroska", _AT_ONCE),
        "mp4": ("mp4", {"movflags": "frag_keyframe+empty_moov", **_AT_ONCE}),
    }
    if scheme or suffix not in known:
        raise UsageError(
            f"Invalid output ({told(url)}). Use a URL of rtmp, rtmps, tcp or udp, or a file that ends in "
            f".{', .'.join(known)}."
        )
    name, options = known[suffix]
    return name, dict(options)


def is_file(url: str) -> bool:
    """Whether an output's URL is a path."""
    return "://" not in url


def told(url: str) -> str:
    """A URL for people, on one line and without secrets."""
    shown = without_secrets(url)
    return shown if shown.isprintable() else repr(shown)


def url_scheme(url: str) -> str:
    """What precedes `://`, in small letters; empty for a path."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""
