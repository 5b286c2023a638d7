"""From detections to the region to cover in every frame, looked at or not.

A detector looks at some frames, misses things in others, and its boxes tremble. `Tracker` joins its boxes
into tracks, smooths every track both ways in time, and says for **every** frame what to cover:

1. `association`: which detection continues which track. Hungarian assignment on overlap and distance, in two
   rounds by confidence, as in ByteTrack.
2. `motion`: where the thing is at any time, and how sure that is. A Kalman filter forward, a
   Rauch-Tung-Striebel smoother back.
3. `hidden`: what a box would be if the picture's border, or something in front, hid no part of the thing.
4. `track` and `tracker`: the book-keeping of tracks and of frames that wait for their final answer.

What is covered only ever grows: the region of a frame holds the raw detection and the smoothed box, both with
the margin around them. A track starts before its first detection and ends after its last.
"""

from vidmod.tracking.settings import Tracking
from vidmod.tracking.tracker import Tracker
from vidmod.tracking.values import FrameDetections, FrameRegions, Region, Track, TrackRecorder

__all__ = ["FrameDetections", "FrameRegions", "Region", "Track", "TrackRecorder", "Tracker", "Tracking"]
