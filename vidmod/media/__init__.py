"""Reading and writing media: the only importer of av.

What is exported here can be had without av, so that a process that never parses an upload does not
load a parser either. What reads or writes is imported by its module.
"""

from vidmod.media.facts import AudioTrack, Medium, Probe, TrackKind, VideoTrack
from vidmod.media.files import open_readable
from vidmod.media.ledger import Ledger
from vidmod.media.parts import Part

__all__ = ["AudioTrack", "Ledger", "Medium", "Part", "Probe", "TrackKind", "VideoTrack", "open_readable"]
