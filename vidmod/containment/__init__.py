"""What a process that parses a stranger's bytes may do: compute, answer, and what it was granted.

Parsers of media are large, written in C, and fed by strangers. So a file is opened only in a worker, a
child that was forked for it, and a stream only in processes that were started for it; and these first give up,
for ever, all that their work does not need. Each layer is enough to stop something, none is trusted to stop everything:

=================== ==========================================================================================
limits              memory, CPU time, no growing file, no core dump, no descriptor but the ones it was given
no_new_privileges   no program can give more rights than the worker has
namespaces          a network of its own, without any interface; System V memory and queues of its own
capabilities        root without root's powers
landlock            no file can be opened or changed, no TCP, no signal to others (as far as the kernel has it)
seccomp             system calls for files, sockets, processes, keys, mounts, tracing and tuning are refused
=================== ==========================================================================================

A worker is granted nothing. A process of a live filter may have `Grants`, each of which takes away as little as it can
of these layers:

========== ===================================================================================================
network    its network stays, and TCP and UDP of both versions of IP; no other kind of socket, local ones included
readable   these files and folders can be opened, for reading only (without Landlock: all that the user may read)
writable   in these, files can also be made, changed, renamed and removed, and grow; no links, pipes or devices
           (without Landlock: all that the user may write)
devices    these device nodes can be opened and commanded; what is limited is the memory that can be written to, not
           addresses (not without Landlock)
lasting    no limit of CPU time
========== ===================================================================================================

Nothing grants programs, other processes, signals, tracing, or changes of owner and mode.

`enclosing` puts them on, `grants` says what is left, `trials` tries them for the doctor, and each mechanism has its
module: `limits`, `privileges` (two layers), `namespaces`, `landlock`, and `seccomp` with its table `system_calls`.

There is no layer that hides how long something takes, and a worker that was taken over still says what it
likes to the one that asks it: what it answers is as untrusted as the file.

Only ctypes is used: `pyseccomp`, the one seccomp library on the package index, is from 2021 and needs
libseccomp.so. The kernel's documents: Documentation/userspace-api/{landlock,seccomp_filter,no_new_privs}.rst.
"""

from vidmod.containment.enclosing import LAYERS, enclose
from vidmod.containment.grants import Grants, libraries, name_resolution
from vidmod.containment.limits import Limits
from vidmod.containment.trials import layers

__all__ = ["LAYERS", "Grants", "Limits", "enclose", "layers", "libraries", "name_resolution"]
