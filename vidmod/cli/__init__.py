"""The command line: parse, one library call, print.

A person reads stderr; a program reads stdout or the file named by `-o`. Imports that take time are made where they are
needed, so that `--help` is quick. A command has a module, or shares one with its like; `entry` puts them together.
"""

from vidmod.cli.entry import cli, main

__all__ = ["cli", "main"]
