"""Processes that parse untrusted files, seen from the process that does not.

::

    this process                zygote                      worker (one a file)
    Pool ──fork, reap──▶ warmed imports, no threads ──fork──▶ enclosed, then handler(link, settings)
      └────────── frames of JSON, and pictures in shared memory ──────────▶ Link

What comes from a worker is checked here and never unpickled; a worker that breaks the rules, hangs,
grows or crashes ends alone, and the pool says how.

>>> with Pool("package.module:handler", limits, warm=["av"]) as pool:
...     worker = pool.fork(source, {"want": "facts"}, slots=4, slot_bytes=640 * 360 * 3)
...     worker.expect(60)
...     while not isinstance(event := pool.poll(1.0)[0], Ended):
...         print(event.payload)
"""

from vidmod.workers.endings import Ending
from vidmod.workers.link import Link
from vidmod.workers.pool import Pool
from vidmod.workers.wire import Json, WireError
from vidmod.workers.worker import Ended, Message, Worker

__all__ = ["Ended", "Ending", "Json", "Link", "Message", "Pool", "WireError", "Worker"]
