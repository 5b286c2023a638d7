"""What a process that parses an untrusted upload may do: compute, and answer.

Parsers of media are large, written in C, and fed by strangers. So a file is opened only in a worker, a
child that was forked for it and that first gives up, for ever, all that parsing does not need. Each layer
is enough to stop something, none is trusted to stop everything:

=================== ==========================================================================================
limits              memory, CPU time, no growing file, no core dump, no descriptor but the ones it was given
no_new_privileges   no program can give more rights than the worker has
namespaces          a network of its own, without any interface; System V memory and queues of its own
capabilities        root without root's powers
landlock            no file can be opened or changed, no TCP, no signal to others (as far as the kernel has it)
seccomp             system calls for files, sockets, processes, keys, mounts, tracing and tuning are refused
=================== ==========================================================================================

`enclosing` puts them on, `trials` tries them for the doctor, and each mechanism has its module: `limits`, `privileges`
(two layers), `namespaces`, `landlock`, and `seccomp` with its table `system_calls`.

There is no layer that hides how long something takes, and a worker that was taken over still says what it
likes to the one that asks it: what it answers is as untrusted as the file.

Only ctypes is used: `pyseccomp`, the one seccomp library on the package index, is from 2021 and needs
libseccomp.so. The kernel's documents: Documentation/userspace-api/{landlock,seccomp_filter,no_new_privs}.rst.
"""

from vidmod.containment.enclosing import LAYERS, enclose
from vidmod.containment.limits import Limits
from vidmod.containment.trials import layers

__all__ = ["LAYERS", "Limits", "enclose", "layers"]
