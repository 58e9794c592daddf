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
from runtime.config import ConfigError, Settings
from runtime.tls import Files, Tls, warn_of
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
    ("left", "told"),
    [
        (timedelta(days=31), None),
        (timedelta(days=30), ("warning", "certificate.expires")),
        (timedelta(0), ("error", "certificate.expired")),
    ],
)
def test_an_end_that_is_near_is_logged(
    left: timedelta, told: tuple[str, str] | None, logged: Logged
) -> None:
    warn_of(datetime.now(UTC) + left)
    assert [(line["level"], line["action"]) for line in logged()] == ([told] if told else [])


async def test_it_is_logged_at_start_and_daily(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    certificates.renew(made, ["audit"], 10)
    tls = papers.tls(made / "audit")
    assert runtime.tls._DAY_SECONDS == 86_400
    monkeypatch.setattr("runtime.tls._DAY_SECONDS", 0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await tls.files.watch()
    assert [line["days"] for line in logged()] == [9, 9]


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
