"""Files that mean harm, written byte by byte: they name other files, they explode, or they hide pictures.

Three lists, each of one kind:

- `references.REFERENCES` name files and addresses. Nothing that they name may be opened; a :class:`trap.Trap` tells.
- `bombs.BOMBS` are small and cost much. Each has to end, within a limit of time and memory.
- `hidings.HIDINGS` show calm pictures and carry :func:`hidings.marker`, the harmless pattern that open_nsfw takes for
  explicit, where a player or a careless scanner does not look. It has to be found, or the account is not complete.

`python -m tests.hostile FOLDER` writes all of them.
"""
