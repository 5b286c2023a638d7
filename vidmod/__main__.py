"""`python -m vidmod`."""

from vidmod.cli import main

main()
