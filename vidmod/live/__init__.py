"""The live filter: a stream comes in, a safe stream goes out.

::

    source ─▶ reader ──packets──▶ filter ──what leaves──▶ publisher ─▶ server
                                   │  ▲                    (cover and silence of its own)
                              look │  │ seen
                                   ▼  │
                                 analyst                   supervisor: watches all four, touches no media

- `filtering`: what becomes of pictures and sound, on values and packets, told the time, so that tests run faster than
  it. `gate` decides what of a frame may be seen (`rules`: by which policy), `arrivals` when it leaves, `sound`
  (`hearing`) goes with it, `overload` says how much is given up, and `pipe` is all of that from packets to packets.
- `processes`: `reader`, `filter`, `analyst`, `publisher` and, if asked for, `recorder`, each begun by `process` and
  with a `station`, joined by sockets (`wire`; what they say is in `messages`). `supervisor` replaces them, by spares
  that it has started before (`launching`), and gives their neighbours new wires; `reach` says what is left to each
  once it has given up all else, and `rehearsal` has a filter load first what it needs. All share the machine's
  monotonic clock, so what one sends goes on where another stopped.
- `recording`: `clean` records what leaves, with its timeline (`accounts`), and `sealed` what comes, encrypted
  (`sealing`); `pieces` and `endings` are the files.
- `telling`: what the outside sees and steers. `standing` (`tally`, `counts`), `hits` and `covers` make of what
  processes say how it stands (`state`); `news` is that for people and programs, which `teller` spreads to `events`,
  `status` and `webhooks` (`spool`); `metrics` and `control` (`serving`, `writing`) answer whoever asks.
- `job` is the parent (`settings`, `roles`): it joins all of that, parses nothing of the stream, and waits for nothing.
"""
