"""How much a caller may send: a rate by key, and places at work by tenant.

- A token bucket (capacity, refill) for each key. A request costs one token, and more for
  its size. Buckets are in memory, or in Valkey where several gateways share them; a Valkey
  that does not answer leaves each gateway to its own.
- Places: requests at work at a time, in all and of one tenant. Who finds none waits in the
  line of its key; a place that gets free goes to the lines in turn, so that the length of
  one is nothing to the others.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from runtime.config import ConfigError
from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()

_MIB = 1 << 20
# Beyond these the bucket that was used least lately is forgotten: it is full by then.
_BUCKETS = 100_000
_VALKEY_SECONDS = 0.5
_WAITING_IN_A_LINE = 256
_AGAIN_SECONDS = 1.0


class Taken(NamedTuple):
    """What became of the attempt to take tokens.

    Args:
        ok: they were taken.
        left: whole tokens that are left.
        wait: seconds until there are as many as were asked for.
        full: seconds until the bucket is full.
    """

    ok: bool
    left: int
    wait: float
    full: float


class Buckets(Protocol):
    """Buckets by name, each full until it is used."""

    async def take(self, name: str, cost: float, *, owed: bool = False) -> Taken:
        """Takes tokens, if there are so many; those that are owed in any case."""
        ...

    async def close(self) -> None: ...


class MemoryBuckets:
    """The buckets of one gateway.

    Args:
        capacity: tokens that a bucket holds.
        refill: tokens that come back in a second.
        clock: seconds.
    """

    def __init__(
        self, capacity: float, refill: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._refill = refill
        self._clock = clock
        # By name, when it is full again: that says how much is in it now.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def take(self, name: str, cost: float, *, owed: bool = False) -> Taken:
        now = self._clock()
        full_at = max(self._full_at.pop(name, now), now)
        after = full_at + cost / self._refill
        wait = after - now - self._capacity / self._refill
        ok = owed or wait <= 1e-9
        self._full_at[name] = after if ok else full_at
        if len(self._full_at) > _BUCKETS:
            self._full_at.popitem(last=False)
        full = self._full_at[name] - now
        left = max(math.floor(self._capacity - full * self._refill + 1e-9), 0)
        return Taken(ok, left, max(wait, 0.0), full)

    async def close(self) -> None:
        """Nothing to close."""


# The same, by the server's clock, in one step. Times are in seconds.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local capacity, refill = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local after = full_at + tonumber(ARGV[3]) / refill
local wait = after - now - capacity / refill
local ok = ARGV[4] == '1' or wait <= 1e-6
if ok then full_at = after end
local full = full_at - now
if ok then redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', math.ceil(full * 1000) + 1) end
return {ok and 1 or 0, tostring(full), tostring(math.max(wait, 0))}
"""


class ValkeyBuckets:
    """Buckets that several gateways share.

    Args:
        url: valkey://user:password@host:port/number, valkeys:// for TLS, unix://path.
        capacity: as for `MemoryBuckets`.
        refill: the same.
    """

    def __init__(self, url: str, capacity: float, refill: float) -> None:
        from valkey.asyncio import Valkey

        self._client: Any = Valkey.from_url(
            url, socket_connect_timeout=_VALKEY_SECONDS, socket_timeout=_VALKEY_SECONDS
        )
        self._script = self._client.register_script(_TAKE)
        self._capacity = capacity
        self._refill = refill
        self._own = MemoryBuckets(capacity, refill)
        self._away_until = 0.0

    async def take(self, name: str, cost: float, *, owed: bool = False) -> Taken:
        from valkey.exceptions import ValkeyError

        if time.monotonic() >= self._away_until:
            # Keys of callers stand in no other place in the clear.
            key = f"winnow.rate.{hashlib.sha256(name.encode()).hexdigest()[:32]}"
            given = [self._capacity, self._refill, cost, int(owed)]
            try:
                ok, full, wait = await self._script(keys=[key], args=given)
            except (ValkeyError, OSError, TimeoutError) as error:
                _log.warning("rate.alone", status="error", reason=type(error).__name__)
                self._away_until = time.monotonic() + _AGAIN_SECONDS
            else:
                left = max(math.floor(self._capacity - float(full) * self._refill + 1e-6), 0)
                return Taken(bool(ok), left, float(wait), float(full))
        return await self._own.take(name, cost, owed=owed)

    async def close(self) -> None:
        await self._client.aclose()


def make_buckets(store: str, capacity: float, refill: float) -> Buckets:
    """The buckets that a setting names.

    Raises:
        ConfigError: it names none.
    """
    if store == "memory":
        return MemoryBuckets(capacity, refill)
    if store.partition("://")[0] in ("valkey", "valkeys", "unix"):
        return ValkeyBuckets(store, capacity, refill)
    raise ConfigError("WINNOW_RATE_STORE: must be memory, or valkey://host:port")


class Rate:
    """Takes the price of requests.

    Args:
        buckets: where tokens are.
        capacity: of each bucket.
        refill: tokens that come back in a second.
        per_mib: tokens for each MiB of a body.
    """

    def __init__(self, buckets: Buckets, capacity: float, refill: float, per_mib: float) -> None:
        self._buckets = buckets
        self._capacity = capacity
        self._per_mib = per_mib
        self._policy = f'"key";q={math.floor(capacity)};w={math.ceil(capacity / refill)}'

    async def take(self, caller: str, size: int) -> dict[str, str]:
        """Takes what a request costs whose body is known to have `size` bytes.

        Returns:
            The header fields that tell of it (draft-ietf-httpapi-ratelimit-headers).

        Raises:
            WinnowError: RATE_LIMITED, with these fields in `headers`.
        """
        # What is larger than a bucket costs all of it, or it would never pass.
        cost = min(1 + self._per_mib * size / _MIB, self._capacity)
        taken = await self._buckets.take(caller, cost)
        fields = {
            "RateLimit-Policy": self._policy,
            "RateLimit": f'"key";r={taken.left};t={math.ceil(taken.full)}',
        }
        if not taken.ok:
            error = WinnowError(
                "RATE_LIMITED",
                "this key has used up its rate; send again after the time in Retry-After",
                retry_after=taken.wait,
            )
            error.headers = fields
            raise error
        return fields

    async def owe(self, caller: str, size: int) -> None:
        """Takes what a body turned out to cost whose size was not announced."""
        if cost := self._per_mib * size / _MIB:
            await self._buckets.take(caller, cost, owed=True)

    async def close(self) -> None:
        """Closes the buckets."""
        await self._buckets.close()


class _Line:
    """Who waits with one key."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.waiting: deque[asyncio.Future[None]] = deque()


class Places:
    """Bounds what is worked on at a time.

    Args:
        most: places in all.
        of_one: places that one tenant may have.
        patience: seconds to wait for one.
    """

    def __init__(self, most: int, of_one: int, patience: float) -> None:
        self._free = most
        self._of_one = of_one
        self._patience = patience
        self._taken: dict[str, int] = {}
        # In the order of their turns.
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    async def take(self, tenant: str, key: str) -> None:
        """Returns with a place of a tenant, at the turn of the key's line.

        Raises:
            WinnowError: OVERLOADED if it would take too long.
        """
        line = self._lines.get(key)
        if line is None and self._has(tenant):
            self._give(tenant)
            return
        if line is None:
            line = self._lines[key] = _Line(tenant)
        if len(line.waiting) >= _WAITING_IN_A_LINE:
            raise self._refusal(tenant)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(place)
        try:
            # Cancels no place: one that is given in the same moment must not be lost.
            await asyncio.wait([place], timeout=self._patience)
        except asyncio.CancelledError:
            if place.done():
                # It came just when nobody wanted it any more.
                self.leave(tenant)
            raise
        finally:
            if not place.done():
                line.waiting.remove(place)
                if not line.waiting:
                    del self._lines[key]
        if not place.done():
            raise self._refusal(tenant)

    def leave(self, tenant: str) -> None:
        """Gives a place back."""
        self._free += 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        for key, line in list(self._lines.items()):
            if not self._free:
                return
            if not self._has(line.tenant):
                continue
            place = line.waiting.popleft()
            # Its next turn comes after all the others'.
            del self._lines[key]
            if line.waiting:
                self._lines[key] = line
            self._give(line.tenant)
            place.set_result(None)

    def _has(self, tenant: str) -> bool:
        return self._free > 0 and self._taken.get(tenant, 0) < self._of_one

    def _give(self, tenant: str) -> None:
        self._free -= 1
        self._taken[tenant] = self._taken.get(tenant, 0) + 1

    def _refusal(self, tenant: str) -> WinnowError:
        own = self._taken.get(tenant, 0) >= self._of_one
        return WinnowError(
            "OVERLOADED",
            "as many requests of this tenant are worked on as may be at a time"
            if own
            else "as many requests are worked on as can be at a time",
            retry_after=_AGAIN_SECONDS,
            backpressure="tenant_concurrency" if own else "concurrency",
        )
