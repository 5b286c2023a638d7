"""What earlier scans left behind: whole timelines to judge again, and journals of scans that were cut off.

A store is a folder of the user's cache. A file's name starts with the size of the source, so that
a listing tells whether hashing a source could be worth while. All that decides whether a file fits
(the source's whole hash, the settings) is inside and compared on reading::

    <size>-<16 of the source's SHA-256>-<16 of the settings>.timeline.json
    <size>-<16 of the source's SHA-256>-<16 of the settings>.journal

A stored clean timeline is a verdict. So a folder or file is believed only if it belongs to this user,
nobody else may write to it, and no link led there. What is damaged, too old or not believed is
as if it were not there: a scan then starts from the beginning, and never fails because of its store.

1. `form`: what files are called, and how they say what they are about.
2. `folder`: whom to believe, locks, writing aside, and making room. It knows nothing of what is in a file.
3. `journal`: lines that survive a crash.
4. `store`: finds and keeps, and remembers what went wrong.
"""

from vidmod.store.journal import Journal
from vidmod.store.store import Store

__all__ = ["Journal", "Store"]
