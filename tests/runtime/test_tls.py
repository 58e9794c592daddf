"""Certificates from files: what is refused, what is complained of."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import runtime.tls
from cli import certificates
from gateway.app import GatewaySettings
from runtime import metrics
from runtime.config import ConfigError, Settings
from runtime.tls import Files, Lifetime, Tls, warn_of
from tests import certificates as papers
from tests.runtime.conftest import Logged


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs") / "house"
    certificates.init(folder, [], [], 365, 3650)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A process's own copy."""
    return Path(shutil.copytree(made / "audit", tmp_path / "audit"))


def test_without_settings_there_is_no_tls() -> None:
    assert Tls.of(Settings()) is None
    assert Files.of(GatewaySettings(), "gateway_tls_certificate", "gateway_tls_key") is None


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key", "tls_ca"])
def test_all_three_or_none(missing: str, folder: Path) -> None:
    given = {name: file for name, file in papers.files(folder).items() if name != missing}
    with pytest.raises(ConfigError) as caught:
        Tls.of(Settings(**given))
    assert str(caught.value) == (
        "set all of WINNOW_TLS_CERTIFICATE, WINNOW_TLS_KEY, WINNOW_TLS_CA, or none"
    )


def encrypted(key: bytes) -> bytes:
    private = load_pem_private_key(key, None)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cert.pem", None, "WINNOW_TLS_CERTIFICATE: cannot be read: no such file or directory"),
        ("key.pem", None, "WINNOW_TLS_KEY: cannot be read: no such file or directory"),
        ("ca.pem", None, "WINNOW_TLS_CA: cannot be read: no such file or directory"),
        ("cert.pem", b"canary", "WINNOW_TLS_CERTIFICATE: holds no certificate in PEM"),
        ("key.pem", b"canary", "WINNOW_TLS_KEY: holds no private key in PEM, unencrypted"),
        ("key.pem", "encrypted", "WINNOW_TLS_KEY: holds no private key in PEM, unencrypted"),
        ("key.pem", "other", "WINNOW_TLS_KEY: is not the key of WINNOW_TLS_CERTIFICATE"),
        ("ca.pem", b"canary", "WINNOW_TLS_CA: holds no certificate in PEM"),
    ],
)
def test_files_that_are_no_use_are_named(
    file: str, content: bytes | str | None, said: str, made: Path, folder: Path
) -> None:
    if content is None:
        (folder / file).unlink()
    elif content == "encrypted":
        (folder / file).write_bytes(encrypted((folder / file).read_bytes()))
    elif content == "other":
        shutil.copy(made / "gateway" / file, folder)
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        papers.tls(folder)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("lasting", "left", "told"),
    [
        (timedelta(days=365), timedelta(days=31), None),
        (timedelta(days=365), timedelta(days=30), ("warning", "certificate.expires")),
        # Of one that is short-lived, a part.
        (timedelta(days=20), timedelta(days=6), None),
        (timedelta(days=20), timedelta(days=5), ("warning", "certificate.expires")),
        (timedelta(days=1), timedelta(hours=7), None),
        (timedelta(days=1), timedelta(hours=6), ("warning", "certificate.expires")),
        (timedelta(days=20), timedelta(0), ("error", "certificate.expired")),
    ],
)
def test_an_end_that_is_near_is_logged(
    lasting: timedelta, left: timedelta, told: tuple[str, str] | None, logged: Logged
) -> None:
    ends = datetime.now(UTC) + left
    warn_of("own", Lifetime(ends - lasting, ends))
    lines = logged()
    assert [(line["level"], line["action"]) for line in lines] == ([told] if told else [])
    assert all(line["certificate"] == "own" for line in lines)


async def test_it_is_logged_at_start_and_daily(
    folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(certificates, "_SKEW", timedelta(days=100))
    certificates.renew(made, ["audit"], 10)
    tls = papers.tls(made / "audit")
    assert runtime.tls._DAY_SECONDS == 86_400
    monkeypatch.setattr("runtime.tls._DAY_SECONDS", 0.1)
    monkeypatch.setattr("runtime.tls._RENEWAL_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.18):
            await tls.files.watch()
    assert [line["hours"] for line in logged()] == [239, 239]


def series() -> dict[str, tuple[float, float]]:
    """Begin and end of each certificate, as a scrape of the ingestor finds them."""
    found: dict[str, tuple[float, float]] = {}
    for name in ("own", "authority", "https"):
        at = [
            metrics.registry("ingestor").get_sample_value(
                f"winnow_certificate_not_{which}_timestamp_seconds", {"certificate": name}
            )
            for which in ("before", "after")
        ]
        assert None not in at
        found[name] = (at[0] or 0.0, at[1] or 0.0)
    return found


async def test_their_ends_are_metrics_also_once_they_are_renewed(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renew(days: int) -> None:
        certificates.renew(made, ["audit"], days)
        for file in ("cert.pem", "key.pem"):
            shutil.copy(made / "audit" / file, folder)

    renew(300)
    tls = papers.tls(folder)
    Files({"CERTIFICATE": folder / "cert.pem", "KEY": folder / "key.pem"})
    first = series()
    lasting = {name: round((ends - begins) / 3600) for name, (begins, ends) in first.items()}
    assert lasting == {"own": 300 * 24 + 1, "authority": 3650 * 24 + 1, "https": 300 * 24 + 1}
    renew(20)
    monkeypatch.setattr("runtime.tls._RENEWAL_SECONDS", 0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await tls.files.watch()  # nobody calls
    begins, ends = series()["own"]
    assert round((ends - begins) / 3600) == 20 * 24 + 1
    assert series()["authority"] == first["authority"]


def test_of_several_authorities_the_one_that_counts_is_its_own(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    certificates.init(other, [], [], 10, 20)
    with (folder / "ca.pem").open("ab") as file:
        file.write((other / "ca" / "ca.pem").read_bytes())
    begins, ends = papers.tls(folder).files.current().lifetimes["authority"]
    assert (ends - begins).days == 3650


async def test_https_shows_the_certificate_of_today(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(
        {"CERTIFICATE": folder / "cert.pem", "KEY": folder / "key.pem"},
    )
    context = files.https()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert shown(context, made) == (folder / "cert.pem").read_text()

    async def sleep(_seconds: float, step: list[int] = [0]) -> None:  # noqa: B006 -- its state
        step[0] += 1
        if step[0] == 1:  # half renewed: what is shown stays
            shutil.copy(made / "gateway" / "cert.pem", folder)
        elif step[0] == 2:
            assert shown(context, made) == (made / "audit" / "cert.pem").read_text()
            shutil.copy(made / "gateway" / "key.pem", folder)
        else:
            raise StopAsyncIteration

    monkeypatch.setattr("runtime.tls.asyncio.sleep", sleep)
    with pytest.raises(StopAsyncIteration):
        await files.renew(context)
    assert shown(context, made) == (made / "gateway" / "cert.pem").read_text()


def shown(server: ssl.SSLContext, made: Path) -> str:
    """The certificate that a client is shown, in PEM; the handshake is in memory."""
    client = ssl.create_default_context(cafile=made / "ca" / "ca.pem")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname="localhost"),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[0].getpeercert(binary_form=True)
    assert certificate is not None
    return ssl.DER_cert_to_PEM_cert(certificate)
