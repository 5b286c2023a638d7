"""Servers over TLS: whose certificates are taken, and what is said of the others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests import rtmp
from tests.rtmp import Nginx
from tests.test_live_job import Start, made, start, with_spot
from tests.test_network import SHAPE, SOUND, check, decoded, film, folder, web
from tests.tls import Front
from vidmod.errors import OutputError, SourceUnreadableError, UsageError
from vidmod.live.settings import LiveSettings
from vidmod.media.network import NetworkReader, NetworkWriter
from vidmod.media.trust import authorities, tls_options

__all__ = ["film", "folder", "made", "start", "web"]

needs_nginx = pytest.mark.skipif(rtmp.missing() is not None, reason=str(rtmp.missing()))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture
def others(tmp_path: Path) -> str:
    """Another authority's certificate."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "others.pem"))
    return str(tmp_path / "others.pem")


@pytest.fixture
def front(web: str, authority: trustme.CA, tmp_path: Path) -> Iterator[Front]:
    with Front(int(web.rpartition(":")[2]), authority, tmp_path) as front:
        yield front


def test_a_source_of_a_trusted_authority_is_read(front: Front, trusted: str) -> None:
    with NetworkReader(f"https://localhost:{front.port}/film.flv", trusted=trusted) as reader:
        check(reader, 75)


def test_a_source_that_nobody_asked_about_is_read(front: Front) -> None:
    with NetworkReader(f"https://localhost:{front.port}/film.flv") as reader:
        check(reader, 75)


def test_a_source_of_another_authority_is_not(front: Front, others: str) -> None:
    with pytest.raises(SourceUnreadableError, match=r"certificate is not trusted: .*local issuer.*--tls-ca"):
        NetworkReader(f"https://localhost:{front.port}/film.flv", trusted=others)


def test_a_certificate_of_another_host_is_not_taken(
    web: str, authority: trustme.CA, trusted: str, tmp_path: Path
) -> None:
    port = int(web.rpartition(":")[2])
    with (
        Front(port, authority, tmp_path, "other.example") as front,
        pytest.raises(SourceUnreadableError, match=r"not trusted: Hostname mismatch.*'localhost'"),
    ):
        NetworkReader(f"https://localhost:{front.port}/film.flv", trusted=trusted)


def test_what_else_is_wrong_is_not_put_on_the_certificate(front: Front, trusted: str) -> None:
    with pytest.raises(SourceUnreadableError, match=r"cannot be opened \((?!.*certificate)"):
        NetworkReader(f"https://localhost:{front.port}/none.flv", trusted=trusted)
    front.__exit__()
    with pytest.raises(SourceUnreadableError, match=r"cannot be opened \((?!.*certificate)"):
        NetworkReader(f"https://localhost:{front.port}/film.flv", trusted=trusted, timeout_seconds=1)


@needs_nginx
def test_rtmp_over_tls(authority: trustme.CA, trusted: str, others: str, tmp_path: Path) -> None:
    with Nginx(tmp_path / "nginx") as server, Front(server.port, authority, tmp_path) as front:
        url = f"rtmps://localhost:{front.port}/out/live"
        for trust in (others, str(authorities(None))):
            with pytest.raises(OutputError, match="certificate is not trusted"):
                NetworkWriter(url, SHAPE, SOUND, timeout_seconds=2, trusted=trust)
            with pytest.raises(SourceUnreadableError, match="certificate is not trusted"):
                NetworkReader(url, timeout_seconds=2, trusted=trust)
        with NetworkWriter(url, SHAPE, SOUND, trusted=trusted):
            pass
    for either in (None, trusted):
        with pytest.raises(OutputError, match="refused"):
            NetworkWriter(url, SHAPE, SOUND, timeout_seconds=2, trusted=either)


def test_options() -> None:
    assert tls_options("rtmp://host/x", "/ca.pem") == {}
    assert tls_options("/file", "/ca.pem") == {}
    assert tls_options("RTMPS://host/x", "/ca.pem") == {"tls_verify": "1", "ca_file": "/ca.pem"}
    assert tls_options("https://host/x", None) == {"tls_verify": "0"}


def test_authorities_have_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such file"):
        authorities(tmp_path / "none.pem")
    for text in ("", "no certificate"):
        (tmp_path / "bad.pem").write_text(text, "utf-8")
        with pytest.raises(UsageError, match="Use a PEM file"):
            authorities(tmp_path / "bad.pem")
    monkeypatch.setattr("vidmod.media.trust._USUAL", ())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match="Install ca-certificates"):
        authorities(None)


def test_to_trust_somebody_and_everybody_is_refused(trusted: str) -> None:
    with pytest.raises(UsageError, match="Leave one of them out"):
        LiveSettings(source="rtmps://host/in", server="/out.ts", tls_verify=False, tls_ca=Path(trusted))


# -- the whole filter, whose processes are enclosed ----------------------------------------------------------


def test_a_filter_takes_no_source_of_somebody_else(made: Path, start: Start, front: Front, tmp_path: Path) -> None:
    job = start(f"https://localhost:{front.port}/film.flv", tmp_path / "out.ts", *with_spot(made))
    assert job.end() == 4
    assert "its certificate is not trusted" in job.errors
    assert not (tmp_path / "out.ts").exists()


@pytest.mark.parametrize("is_named", [True, False])
def test_a_filter_takes_a_source_that_it_is_told_to(
    made: Path, start: Start, front: Front, trusted: str, tmp_path: Path, is_named: bool
) -> None:
    trust = ("--tls-ca", trusted) if is_named else ("--no-tls-verify",)
    job = start(f"https://localhost:{front.port}/film.flv", tmp_path / "out.ts", *trust, *with_spot(made))
    output = tmp_path / "out.ts"
    job.wait_for(lambda: output.exists() and output.stat().st_size > 20_000)
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == 0
    assert len(decoded(output)) > 10


@needs_nginx
def test_a_filter_sends_nothing_to_somebody_else(
    made: Path, start: Start, authority: trustme.CA, trusted: str, tmp_path: Path
) -> None:
    with Nginx(tmp_path / "nginx") as server, Front(server.port, authority, tmp_path) as front:
        url = f"rtmps://localhost:{front.port}/out/live"
        job = start(made / "film.mp4", url, *with_spot(made))
        assert job.end() == 1
        assert "its certificate is not trusted" in job.errors
        fine = start(made / "film.mp4", url, "--tls-ca", trusted, *with_spot(made))
        fine.wait_for(lambda: "No longer covered" in fine.errors)
        with NetworkReader(server.url("out")) as reader:
            assert reader.facts.size
