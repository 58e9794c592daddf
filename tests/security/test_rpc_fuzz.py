"""Every RPC of every service takes whatever bytes come: it refuses them for a documented
reason, in our words and none of the caller's, and goes on serving.
"""

from __future__ import annotations

import asyncio
import random
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from runtime.channels import PeerStatus, dial
from runtime.errors import MAPPINGS
from runtime.server import healthy
from tests.e2e.house import SERVICES, House
from tests.security.bad_messages import KINDS, MARKER, stream, valid
from tests.security.conftest import running, said_since

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261122
CALLS = 8  # of each RPC with each kind of message
AT_ONCE = 24
SECONDS = 1.0  # a call that waits for more is left
BEHIND = tuple(name for name in SERVICES if name != "gateway")

# A deadline is the test's own; UNIMPLEMENTED and RESOURCE_EXHAUSTED come from gRPC
# itself: two requests in the place of one, and what is larger than it takes.
CODES = {
    *(mapping.grpc for name, mapping in MAPPINGS.items() if name != "INTERNAL"),
    *(grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED),
}
# What Python, protobuf and the database say when nobody catches it.
FOREIGN = ("Traceback", "Error(", "Exception", "object has no", "DecodeError", "psycopg", ".py")

# The client's own, where the answer overtakes a request (grpc/grpc#36066).
_OVERTAKEN = "Internal error from Core"

Calls = list[tuple[str, list[bytes], "Metadata"]]
Metadata = tuple[tuple[str, str], ...]


class Outcome(NamedTuple):
    """How a call ended: its status, and all that an error said."""

    code: grpc.StatusCode
    said: str


class Door(NamedTuple):
    """A running service, from outside."""

    channel: grpc.aio.Channel
    methods: list[MethodDescriptor]

    async def call(self, path: str, messages: Sequence[bytes], metadata: Metadata = ()) -> Outcome:
        """Sends messages as they are and reads what comes. Any kind of RPC is a
        stream of messages each way on the wire."""

        async def sending() -> AsyncIterator[bytes]:
            for message in messages:
                yield message

        call = self.channel.stream_stream(path)(sending(), metadata=metadata, timeout=SECONDS)
        status = PeerStatus(call)
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as failure:
            error = status.of(failure)
            if error.details() == _OVERTAKEN:
                return Outcome(grpc.StatusCode.OK, "")
            trailers = " ".join(f"{key}={value!r}" for key, value in error.trailing_metadata())
            return Outcome(error.code(), f"{error.details()} {trailers}")
        return Outcome(await call.code(), "")


def methods_of(address: str) -> Iterator[MethodDescriptor]:
    """The RPCs of a server, as it tells them by reflection; its own reflection too."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        for service in database.get_services():
            yield from pool.FindServiceByName(service).methods


@asynccontextmanager
async def door(house: House, name: str) -> AsyncIterator[Door]:
    address = f"unix:{house.data_dir / 'sockets' / name}"
    channel = dial(address)
    try:
        yield Door(channel, await asyncio.to_thread(lambda: list(methods_of(address))))
    finally:
        await channel.close()


def ours(method: MethodDescriptor) -> bool:
    """Whether an RPC is one of our contracts'; the others are gRPC's own."""
    return str(method.containing_service.full_name).startswith("winnow.")


def contracts() -> set[str]:
    """The services of the contracts, by the files that they stand in."""
    found = set()
    for file in (ROOT / "protos").rglob("*.proto"):
        text = file.read_text()
        package = re.findall(r"^package ([\w.]+);", text, re.MULTILINE)
        found |= {
            f"{package[0]}.{name}" for name in re.findall(r"^service (\w+)", text, re.MULTILINE)
        }
    return found


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def chance_of(*what: str) -> random.Random:
    """The same draws for the same test, whatever ran before."""
    return random.Random(SEED ^ zlib.crc32("/".join(what).encode()))


def wrong(outcome: Outcome) -> bool:
    """Whether a call ended in a way that no caller should see."""
    return (
        outcome.code not in CODES
        or MARKER in outcome.said
        or any(words in outcome.said for words in FOREIGN)
    )


async def together(at: Door, calls: dict[str, Calls]) -> set[str]:
    """Makes all calls, some at a time; those that ended wrong, by what was sent."""
    places = asyncio.Semaphore(AT_ONCE)
    found: set[str] = set()

    async def one(name: str, path: str, messages: list[bytes], metadata: Metadata) -> None:
        async with places:
            outcome = await at.call(path, messages, metadata)
        if wrong(outcome):
            # Not what it said: that may be the input.
            found.add(f"{path} {name}: {outcome.code.name}")

    await asyncio.gather(*(one(name, *call) for name, each in calls.items() for call in each))
    return found


@contextmanager
def unharmed(house: House) -> Iterator[None]:
    """Whatever is sent within the block: the same processes serve afterwards, and no
    log has it, nor a defect."""
    before = running(house)
    assert set(before) == set(SERVICES)
    begin = house.log.stat().st_size
    yield
    assert running(house) == before
    assert house.http.get("/readyz").status_code == 200
    said = said_since(house, begin)
    assert MARKER not in said
    assert "rpc.defect" not in said


async def test_the_services_tell_their_rpcs(house: House) -> None:
    found = []
    for name in BEHIND:
        async with door(house, name) as at:
            found += [path_of(method) for method in at.methods]
            assert await healthy(at.channel)
    served = {
        name for path in found if path.startswith("/winnow.") for name in [path.split("/")[1]]
    }
    assert served == contracts()


def each_kind(methods: list[MethodDescriptor]) -> dict[str, Calls]:
    """One message a call, of every kind."""
    return {
        kind: [
            (path_of(method), [make(chance, method.input_type)], ())
            for method in methods
            for chance in [chance_of(path_of(method), kind)]
            for _ in range(CALLS)
        ]
        for kind, make in KINDS.items()
    }


def any_order(methods: list[MethodDescriptor]) -> dict[str, Calls]:
    """None or several messages a call, as no client of ours would send them."""
    calls = [
        (path_of(method), stream(chance, method), ())
        for method in methods
        for chance in [chance_of(path_of(method))]
        for _ in range(4 * CALLS if method.client_streaming else CALLS)
    ]
    return {"order": calls}


def any_metadata(methods: list[MethodDescriptor]) -> dict[str, Calls]:
    """Tenants that are none, and too much of it."""
    tenants: list[Metadata] = [
        (("x-winnow-tenant", value), ("x-request-id", value))
        for value in (MARKER, "", "a/../b", "t" * 65, MARKER * 300)
    ]
    given: list[Metadata] = [
        *tenants,
        (("x-large", MARKER * 5000),),
        tuple((f"x-{number}", MARKER) for number in range(500)),
    ]
    return {
        f"metadata {number}": [
            (path_of(method), [valid(chance_of(path_of(method)), method.input_type)], metadata)
            for method in methods
        ]
        for number, metadata in enumerate(given)
    }


SENT = (each_kind, any_order, any_metadata)
Sent = Callable[[list[MethodDescriptor]], dict[str, Calls]]


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("name", BEHIND)
async def test_nothing_sent_breaks_an_rpc(house: House, name: str, sent: Sent) -> None:
    with unharmed(house):
        async with door(house, name) as at:
            assert await together(at, sent([one for one in at.methods if ours(one)])) == set()
            assert await healthy(at.channel)


@pytest.mark.parametrize(
    "sent",
    [
        each_kind,
        any_order,
        any_metadata,
    ],
)
async def test_nothing_sent_breaks_what_grpc_adds(house: House, sent: Sent) -> None:
    """Health and reflection are the same code in all of them."""
    with unharmed(house):
        async with door(house, "ingestor") as at:
            assert await together(at, sent([one for one in at.methods if not ours(one)])) == set()
            assert await healthy(at.channel)


@pytest.mark.parametrize("name", BEHIND)
async def test_what_is_larger_than_a_message_may_be_is_refused(house: House, name: str) -> None:
    large = MARKER.encode() * (5 << 16)
    with unharmed(house):
        async with door(house, name) as at:
            # The limit is the server's: one RPC of each of its services will do.
            for method in {one.containing_service.full_name: one for one in at.methods}.values():
                outcome = await at.call(path_of(method), [large])
                assert outcome.code == grpc.StatusCode.RESOURCE_EXHAUSTED, path_of(method)
                assert not wrong(outcome)


@pytest.mark.parametrize("name", BEHIND)
async def test_an_rpc_that_there_is_not_is_said_to_be_none(house: House, name: str) -> None:
    with unharmed(house):
        async with door(house, name) as at:
            for path in ("/winnow.none.v1.NoService/None", f"/{MARKER}/x", "/x", "/"):
                outcome = await at.call(path, [])
                assert outcome.code == grpc.StatusCode.UNIMPLEMENTED
                assert not wrong(outcome)
