"""Facts, accounts and models as a timeline states them: its JSON objects and its notes."""

from __future__ import annotations

import dataclasses

from vidmod.media import Ledger, Probe, VideoTrack
from vidmod.messages import Picture
from vidmod.models import Manifest, Model
from vidmod.timeline import Json, StreamScan


def unseen(track: VideoTrack) -> StreamScan:
    """A stream that nobody came to look at."""
    return StreamScan(track.index, track.kind, video_json(track, None), (), (), Ledger().as_json())


def is_whole(stream: StreamScan) -> bool:
    """Whether every span was analysed and the account of packets has no loss."""
    ledger = stream.ledger
    lossless = not (ledger["lost"] or ledger["unusable"] or ledger["read_errors"] or ledger["truncated"])
    return lossless and bool(stream.samples) and all(span.state == "analysed" for span in stream.coverage)


def notes_of(ledger: Ledger, track: VideoTrack) -> list[str]:
    """What a reader should know of a stream, in words."""
    rows = (
        (ledger.lost, "{} of {} packets gave no picture"),
        (ledger.unusable, "{} pictures have a size or format that cannot be scaled"),
        (ledger.read_errors, "reading failed {} times"),
        (ledger.truncated, "the file ends before the stream does"),
        (ledger.hidden if track.kind == "video" else 0, "{} packets are hidden by an edit list, and looked at apart"),
        (ledger.damaged, "{} pictures were patched by the decoder"),
        (ledger.size_changes, "the picture size changes {} times"),
        (
            ledger.missing_pts + ledger.backward_pts if track.kind != "cover" else 0,
            "{} pictures had no usable time; theirs was inferred",
        ),
    )
    return [f"{stream_name(track)}: {text.format(count, ledger.packets)}." for count, text in rows if count]


def gpu_notes(pictures: int, on_gpu: int) -> list[str]:
    """What has to be known of a scan that decoded on a GPU.

    Args:
        pictures: That were decoded and looked at.
        on_gpu: Of these, what the GPU has decoded.
    """
    notes = []
    if on_gpu:
        notes.append(
            f"{on_gpu} pictures were decoded on the GPU, which conceals damage inside a picture and is silent about it."
        )
    if on_gpu < pictures:
        notes.append(f"{pictures - on_gpu} pictures were decoded on the CPU: the GPU's decoder did not take them.")
    return notes


def stream_name(track: VideoTrack) -> str:
    """What notes call a stream."""
    return f"Stream {track.index}" + ("" if track.kind == "video" else f" ({track.kind})")


def start_of(facts: Probe | None) -> float | None:
    """When the earliest stream of a file begins, in seconds; None if nobody says."""
    return None if facts is None or facts.start_seconds is None else round(float(facts.start_seconds), 6)


def video_json(track: VideoTrack, picture: Picture | None) -> Json:
    """The schema's `video`: what was decoded, or what is claimed where nothing was."""
    width, height = track.size if picture is None else picture.size
    rate = track.average_rate
    return {
        "codec": track.codec,
        "width": width,
        "height": height,
        "rotation": 0 if picture is None else picture.rotation,
        "mirrored": False if picture is None else picture.mirrored,
        "pixel_format": track.pixel_format if picture is None else picture.pixel_format,
        "average_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "time_base": f"{track.time_base.numerator}/{track.time_base.denominator}",
    }


def model_json(model: Model) -> Json:
    """The schema's entry of `provenance.models`."""
    manifest, info = model.manifest, model.info
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": model.weights.sha256,
        "licence": manifest.licence,
        "runtime": info.runtime,
        "runtime_version": info.version,
        "precision": info.precision,
        "device": info.device,
        **({"note": info.note} if info.note else {}),
        "thresholds": thresholds_of(manifest),
    }


def thresholds_of(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Label to review and block thresholds, as a policy takes them."""
    return {label: dataclasses.asdict(pair) for label, pair in manifest.thresholds.items()}
