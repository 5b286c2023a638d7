"""Sends a film to whoever asks, by RTSP: GStreamer's server, in the system's Python, which has Debian's python3-gi.

Usage: `/usr/bin/python3 tests/rtsp_server.py FILM`, an MP4 of H.264 and AAC. Writes its URL to standard output once it
listens, and ends with a word on standard error if it lacks anything; with `--check` instead of a film it ends anyway.
"""

from __future__ import annotations

import sys

ELEMENTS = ("qtdemux", "h264parse", "rtph264pay", "aacparse", "rtpmp4gpay")
PIPELINE = (
    "( filesrc location={} ! qtdemux name=film"
    " film.video_0 ! queue ! h264parse ! rtph264pay name=pay0 pt=96"
    " film.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)


def main() -> int:
    """Serve until killed."""
    try:
        import gi  # type: ignore[import-not-found]

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]
    except (ImportError, ValueError) as error:
        print(f"GStreamer's RTSP server is missing: {error}", file=sys.stderr)
        return 1
    Gst.init(None)
    missing = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if missing:
        print(f"GStreamer's plugins are missing: {', '.join(missing)}", file=sys.stderr)
        return 1
    if sys.argv[1] == "--check":
        return 0
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(sys.argv[1]))
    server.get_mount_points().add_factory("/film", factory)
    server.attach(None)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/film", flush=True)
    GLib.MainLoop().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
