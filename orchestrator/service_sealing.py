"""SealService: unpack, ask the store, pack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from orchestrator import store_sealing
from orchestrator.sealing import REWRAP, THE_KEY, check_held
from runtime.context import DEFAULT_TENANT
from runtime.database import Database
from runtime.jobs import Queue
from runtime.keyring import Keyring
from winnow.seal.v1 import seal_service_pb2 as pb
from winnow.seal.v1 import seal_service_pb2_grpc as rpc


class SealService(rpc.SealServiceServicer):
    """The keys that seal what is secret, for those who keep the house running.

    Args:
        database: the orchestrator's.
        queue: where rotations are jobs.
        keyring: the key-encryption keys.
        ring: told when there is a new job.
    """

    def __init__(
        self, database: Database, queue: Queue, keyring: Keyring, ring: Callable[[], object]
    ) -> None:
        self._database = database
        self._queue = queue
        self._keyring = keyring
        self._ring = ring

    async def GetSealing(
        self, _request: pb.GetSealingRequest, _context: Any
    ) -> pb.GetSealingResponse:
        return await self._database.run(self._sealing)

    async def RotateSealing(
        self, _request: pb.RotateSealingRequest, _context: Any
    ) -> pb.RotateSealingResponse:
        answer = await self._database.run(self._rotate)
        self._ring()
        return answer

    def _sealing(self, connection: Connection) -> pb.GetSealingResponse:
        self._keyring.refresh()
        current, held = self._keyring.current, self._keyring.held
        counts = store_sealing.counts(connection)
        names = [*held, *sorted(counts.keys() - held.keys())]
        return pb.GetSealingResponse(
            keys=[
                pb.SealingKey(
                    key_id=name,
                    current=name == current,
                    held=name in held,
                    reports=counts.get(name, 0),
                )
                for name in names
            ],
            shredded=store_sealing.shredded(connection),
            rotating=self._queue.there(connection, REWRAP, THE_KEY),
        )

    def _rotate(self, connection: Connection) -> pb.RotateSealingResponse:
        self._keyring.refresh(0)
        check_held(connection, self._keyring)
        current = self._keyring.current
        counts = store_sealing.counts(connection)
        # One that has given up would stand in the way of every other.
        self._queue.drop_dead(connection, REWRAP, THE_KEY)
        self._queue.put(connection, REWRAP, THE_KEY, tenant=DEFAULT_TENANT)
        outstanding = sum(number for name, number in counts.items() if name != current)
        return pb.RotateSealingResponse(key_id=current, outstanding=outstanding)
