"""Reading media: the only importer of av."""

from vidmod.media import codecs
from vidmod.media.frame import Frame, Orientation
from vidmod.media.ledger import Ledger
from vidmod.media.reader import Reader
from vidmod.media.source import AudioTrack, Probe, VideoTrack, check_readable, probe
from vidmod.media.sparse import NotSparseError, Shown, SparseReader

__all__ = [
    "AudioTrack",
    "Frame",
    "Ledger",
    "NotSparseError",
    "Orientation",
    "Probe",
    "Reader",
    "Shown",
    "SparseReader",
    "VideoTrack",
    "check_readable",
    "codecs",
    "probe",
]
