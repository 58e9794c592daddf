"""Certificates for tests, made by the code of `winnow certs`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cli import certificates
from runtime.config import Settings
from runtime.tls import Tls


def files(folder: Path) -> dict[str, Any]:
    """The settings that name what a process's folder holds."""
    return {
        "tls_certificate": folder / "cert.pem",
        "tls_key": folder / "key.pem",
        "tls_ca": folder / "ca.pem",
    }


def tls(folder: Path, *added: str) -> Tls:
    """What a process that is given this folder speaks."""
    made = Tls.of(Settings(**files(folder), peers_allowed=added))
    assert made is not None
    return made


@contextmanager
def yesterday() -> Iterator[int]:
    """Certificates issued within begin two days ago; those of so many days have ended."""
    with patch.object(certificates, "_SKEW", timedelta(days=2)):
        yield -1
