"""The commands as a user runs them, against the gateway of tests/gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from cli.main import app
from tests.gateway.conftest import stack as stack

Run = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The server lives in this process: what it logs is not what a command writes."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


@pytest.fixture
def winnow(stack: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line in a thread of its own: the server lives in this one."""
    monkeypatch.setenv("WINNOW_SERVER", stack.url)

    async def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), stdin)

    return run


@pytest.fixture
def reports(stack: Any) -> Any:
    return stack.reports
