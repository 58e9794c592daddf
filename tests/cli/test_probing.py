"""`winnow probe`: what it needs to ask, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from cli.usage import ServiceName
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside `winnow up`: nothing that a service must have is set."""
    for name in ("DATABASE_URL", "SEALING_KEY", "FINGERPRINT_KEY", "AUDIT_SIGNING_KEY"):
        monkeypatch.delenv(f"WINNOW_{name}", raising=False)


@pytest.mark.parametrize("service", ["orchestrator", "gateway"])
async def test_a_service_that_serves_is_asked_without_its_keys(
    winnow: Run, stack: Any, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = stack.orchestrator.port if service == "orchestrator" else stack.url.rpartition(":")[2]
    monkeypatch.setenv(f"WINNOW_{service.upper()}_LISTEN", f"127.0.0.1:{port}")
    result = await winnow("probe", service)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("service", list(ServiceName))
async def test_a_service_that_is_not_there_does_not_serve(
    winnow: Run, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"WINNOW_{service.upper()}_LISTEN", "127.0.0.1:9")
    result = await winnow("probe", service)
    assert result.exit_code == 1, result.stderr
    assert result.stderr.startswith(f"winnow: {service}: ")


async def test_certificates_by_halves_are_told(
    winnow: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_TLS_KEY", "key.pem")
    result = await winnow("probe", "audit")
    assert result.exit_code == 2
    assert "WINNOW_TLS_CERTIFICATE" in result.stderr
