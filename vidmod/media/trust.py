"""Whether servers that are reached over TLS are who they say: whose certificates are taken."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from vidmod.errors import UsageError
from vidmod.media.places import url_scheme

_SECURE = {"rtmps": 443, "https": 443}
# Where distributions have them; OpenSSL of a Python that was built elsewhere looks in other places.
_USUAL = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_TELLING_SECONDS = 2.0


def is_secure(url: str) -> bool:
    """Whether a server of such a URL shows a certificate."""
    return url_scheme(url) in _SECURE


def authorities(given: Path | None) -> Path:
    """A file with the certificates of who is trusted, in PEM: that one, or the machine's.

    Raises:
        UsageError: There is no such file, or nothing in it.
    """
    known = ssl.get_default_verify_paths()
    found = [given] if given is not None else [Path(name) for name in (known.cafile, *_USUAL) if name]
    path = next((path.absolute() for path in found if path.is_file()), None)
    if path is None:
        if given is not None:
            raise UsageError(f"Invalid tls-ca ({given}): there is no such file.")
        raise UsageError(
            "This machine has no certificates of authorities, so no server over TLS can be trusted. Install "
            "ca-certificates, or name a file of your own with --tls-ca."
        )
    try:
        ssl.create_default_context(cafile=path)
    except (ssl.SSLError, OSError) as exc:
        raise UsageError(f"Invalid tls-ca ({path}): there are no certificates in it. Use a PEM file.") from exc
    return path


def tls_options(url: str, trusted: str | None) -> dict[str, str]:
    """FFmpeg's options for a URL.

    Args:
        trusted: A file as :func:`authorities` gives it; None to take any certificate.
    """
    if not is_secure(url):
        return {}
    return {"tls_verify": "0"} if trusted is None else {"tls_verify": "1", "ca_file": trusted}


def shake_hands(url: str, trusted: str | None, seconds: float) -> None:
    """Connect to a server, see whether its certificate is one to take, and leave.

    What FFmpeg's outputs connect to it does not check itself, since PyAV hands them no options: this is done right
    before. Nothing happens for a URL without TLS, and with nobody to be trusted.

    Raises:
        OSError: It is not, by somebody who is not trusted (`ssl.SSLCertVerificationError`), or there is no connection.
        ValueError: The URL makes no sense.
    """
    if trusted is None or not is_secure(url):
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _SECURE[url_scheme(url)]
    context = ssl.create_default_context(cafile=trusted)
    with (
        socket.create_connection((host, port), seconds) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        pass


def distrust(exc: Exception, url: str, trusted: str | None) -> str | None:
    """What is wrong with a server's certificate, which FFmpeg does not tell; None if it is something else."""
    if not isinstance(exc, ssl.SSLCertVerificationError):
        try:
            shake_hands(url, trusted, _TELLING_SECONDS)
        except ssl.SSLCertVerificationError as found:
            exc = found
        except (OSError, ValueError):
            return None
        else:
            return None
    return f"its certificate is not trusted: {exc.verify_message.rstrip('.')}; name another authority with --tls-ca"
