"""The live filter: a stream comes in, a safe stream goes out.

::

    source ─▶ reader ──packets──▶ filter ──what leaves──▶ publisher ─▶ server
                                   │  ▲                    (cover and silence of its own)
                              look │  │ seen
                                   ▼  │
                                 analyst                   supervisor: watches all four, touches no media

- `gate` decides what of a frame may be seen, `arrivals` when it leaves, `sound` goes with it, and `pipe` is all of that
  from packets to packets: told the time, so that tests run faster than it.
- `reader`, `filter`, `analyst` and `publisher` are processes (`process`, `station`), joined by sockets (`wire`,
  `messages`); `supervisor` starts them anew and gives their neighbours new wires. All share the machine's monotonic
  clock, so what one sends goes on where another stopped.
- `launching` starts such a process, `reach` says what is left to each once it has given up all else (`process` has it
  do so), and `rehearsal` has a filter load first what it needs.
- `recorder` is one more process: `clean` records what leaves, with its timeline (`accounts`), and `sealed` what comes,
  encrypted (`sealing`); `pieces` and `endings` are the files.
- `job` is the parent (`settings`): it starts them by way of `roles`, and makes of what they say, with `standing`
  (`tally`), `hits` and `covers`, how it stands, and `news` for people and programs, which `telling` spreads.
- `events`, `webhooks` (`spool`), `metrics`, `status` and `control` (`serving`, `writing`) are what the outside sees and
  steers; `state` is what they show.
"""
