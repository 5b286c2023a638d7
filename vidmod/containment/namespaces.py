"""A network without any interface where none is granted, and System V memory and queues that nobody else has."""

from __future__ import annotations

from vidmod.containment.libc import call

# linux/sched.h
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def leave_namespaces(*, network: bool = False) -> None:
    """Go to new namespaces.

    Args:
        network: Stay in that of the network.

    Raises:
        OSError: The kernel has none, or refuses.
    """
    # Without rights of its own, a process gets a network namespace only inside of a user namespace; where
    # those are forbidden, root does without.
    wanted = _CLONE_NEWIPC if network else _CLONE_NEWNET | _CLONE_NEWIPC
    try:
        call("unshare", _CLONE_NEWUSER | wanted)
    except OSError:
        call("unshare", wanted)
