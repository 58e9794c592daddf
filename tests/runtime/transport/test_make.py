"""A transport is chosen by name, and a wrong URL is refused without being shown."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.tables import jobs
from runtime import transport
from runtime.config import ConfigError
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Queue
from runtime.transport import Transport


def make(name: Any, url: str) -> Transport:
    # Nothing is connected before it is used.
    database = Database("postgresql://nobody@/nowhere", connections=1)
    return transport.make(name, url, ["group"], database=database, queue=Queue(jobs, "worker"))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("valkey", ""),
        ("nats", ""),
        ("valkey", "nats://hidden@127.0.0.1"),
        ("nats", "valkey://hidden@127.0.0.1"),
        ("valkey", "valkey://user:hidden@127.0.0.1:port"),
        ("nats", "nats://user:hidden@127.0.0.1:99999"),
        ("nats", "127.0.0.1:4222"),
    ],
)
def test_a_wrong_url_is_refused_and_not_shown(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match="WINNOW_EVENT_TRANSPORT_URL: must be a URL") as refused:
        make(name, url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("valkey", "valkey://user:hidden@127.0.0.1:1/0"),
        ("valkey", "unix:///nowhere/socket"),
        ("nats", "nats://user:hidden@127.0.0.1:1"),
    ],
)
async def test_a_broker_that_is_away_is_said_to_be_away(name: str, url: str) -> None:
    made = make(name, url)
    with pytest.raises(WinnowError) as refused:
        await made.publish([])
    assert refused.value.reason == "UPSTREAM_UNAVAILABLE"
    assert refused.value.retryable
    assert "hidden" not in refused.value.message
    await made.close()
