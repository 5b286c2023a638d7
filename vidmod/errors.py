"""Every error that vidmod raises on purpose.

::

    VidmodError                     exit status 1
    ├── UsageError (ValueError)     exit status 2: what was asked for makes no sense
    │   ├── PolicyError             a policy file
    │   ├── ManifestError           a model manifest
    │   ├── TimelineError           a timeline document
    │   ├── WeightsError            weights that are missing, or are not the ones named
    │   └── RuntimeUnavailableError a runtime or device that is not here
    ├── SourceError                 exit status 4: this input cannot be scanned
    │   ├── SourceNotFoundError (FileNotFoundError)
    │   ├── SourceUnreadableError (OSError)
    │   ├── NotVideoError           text, sound, an empty file, a folder without video
    │   └── UndecodableError        video of which no frame can be decoded
    ├── OutputError (OSError)       exit status 1: a result could not be written
    ├── InferenceError              exit status 1: a model failed on good input
    ├── SignatureError (ValueError) exit status 1: a webhook that is not what it says
    └── ControlError                exit status 1: a live filter that does not answer

A message names the file or field, says what is wrong and what to do next. Errors from
FFmpeg, the runtimes and the operating system are translated where they enter, ``from exc``.
"""

from __future__ import annotations

from collections.abc import Iterable


class VidmodError(Exception):
    """The root: ``exit_status`` is what the command line ends with."""

    exit_status = 1


class UsageError(VidmodError, ValueError):
    """An argument, an option or a settings file is wrong."""

    exit_status = 2


class PolicyError(UsageError):
    """A policy file is unreadable, or a field of it is wrong."""


class ManifestError(UsageError):
    """A model manifest is unreadable, or a field of it is wrong."""


class TimelineError(UsageError):
    """A timeline document is unreadable, damaged, or of another version."""


class WeightsError(UsageError):
    """A model's weights are missing, or their hash is not the manifest's."""


class RuntimeUnavailableError(UsageError):
    """The runtime or device that was asked for is not on this machine."""


class SourceError(VidmodError):
    """An input cannot be scanned."""

    exit_status = 4


class SourceNotFoundError(SourceError, FileNotFoundError):
    """There is nothing at this path."""


class SourceUnreadableError(SourceError, OSError):
    """The file is there but cannot be read, or it changed while it was read."""


class NotVideoError(SourceError):
    """The input holds no video."""


class UndecodableError(SourceError):
    """The input claims video, but no frame of it can be decoded."""


class OutputError(VidmodError, OSError):
    """A result could not be written; what was there before is untouched."""


class InferenceError(VidmodError):
    """A model failed on input of the right shape."""


class SignatureError(VidmodError, ValueError):
    """A webhook was not signed with this secret, was changed on its way, or is too old."""


class ControlError(VidmodError):
    """A live filter does not answer, or refuses an order."""


def choose(field: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        UsageError: It is not; the message names the field and every allowed value.
    """
    options = tuple(allowed)
    if value not in options:
        raise UsageError(f"Invalid {field} ({value!r}). Use one of {', '.join(options)}.")
    return value
