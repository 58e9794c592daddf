"""How much a caller may send: a rate by key, and places at work by tenant.

- A token bucket (capacity, refill) for each key. A request costs one token, and more for
  its size. Buckets are in memory, or in a store that several processes share; where that
  does not answer, each goes on with its own.
- Places: requests at work at a time, in all and of one tenant. Who finds none waits in the
  line of its key; a place that gets free goes to the lines in turn, so that the length of
  one is nothing to the others.
- Streams of events, which take no place: so many open at a time, in all and of one caller.

The gateway counts what comes over REST (gateway.admission), a service what comes to it
directly (`Limits`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Protocol

from runtime import metrics
from runtime.config import ConfigError, LimitSettings
from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()

# Nobody's bucket is full later than in a day, whatever he owes.
LONGEST_SECONDS = 86_400.0
_MIB = 1 << 20
# Beyond these the bucket that was used least lately is forgotten: it is full by then.
_BUCKETS = 100_000
# How long a shared store may take, longer than a burst holds it up; and for how long one
# that took longer is not asked.
_STORE_SECONDS = 2.0
_AWAY_SECONDS = 5.0
_WAITING_IN_A_LINE = 256
_AGAIN_SECONDS = 1.0
# Streams of events that are open at a time.
STREAMS = 8_000
STREAMS_OF_ONE = 1_000


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


class Store(Protocol):
    """Buckets by name, each full until it is used. What is kept of one is the time at which
    it is full again, so tokens are counted in the seconds in which they come back.
    """

    name: str

    async def take(
        self, bucket: str, span: float, most: float, *, owed: bool
    ) -> tuple[bool, float]:
        """Takes from a bucket, if there is so much in it; what is owed in any case.

        Args:
            bucket: its name.
            span: seconds in which comes back what is taken. A bucket is full again in
                `LONGEST_SECONDS` at the latest.
            most: seconds in which an empty bucket gets full.

        Returns:
            Whether it was taken, and in how many seconds the bucket is full now.

        Raises:
            WinnowError: the store does not answer, or refuses; UNAUTHENTICATED.
        """
        ...

    async def close(self) -> None: ...


class MemoryStore:
    """The buckets of one process.

    Args:
        clock: seconds.
    """

    name = "memory"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()
        metrics.RATE_BUCKETS.labels(self.name).set_function(lambda: len(self._full_at))

    async def take(
        self, bucket: str, span: float, most: float, *, owed: bool
    ) -> tuple[bool, float]:
        now = self._clock()
        full_at = max(self._full_at.pop(bucket, now), now)
        ok = owed or full_at + span - now - most <= 1e-9
        if ok:
            full_at = min(full_at + span, now + LONGEST_SECONDS)
        self._full_at[bucket] = full_at
        if len(self._full_at) > _BUCKETS:
            self._full_at.popitem(last=False)
        return ok, full_at - now

    async def close(self) -> None:
        """Nothing to close."""


# The same, by the server's clock, in one step. Times are in seconds.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local span, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local ok = ARGV[3] == '1' or full_at + span - now - most <= 1e-6
if ok then
  full_at = math.min(full_at + span, now + tonumber(ARGV[4]))
  local keep = math.ceil((full_at - now) * 1000) + 1
  redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', keep)
end
return {ok and 1 or 0, tostring(full_at - now)}
"""


class ValkeyStore:
    """Buckets in Valkey.

    Args:
        url: valkey://user:password@host:port/number, valkeys:// for TLS, unix://path.
    """

    name = "valkey"

    def __init__(self, url: str) -> None:
        from valkey.asyncio import Valkey

        self._client: Any = Valkey.from_url(
            url, socket_connect_timeout=_STORE_SECONDS, socket_timeout=_STORE_SECONDS
        )
        self._script = self._client.register_script(_TAKE)

    async def take(
        self, bucket: str, span: float, most: float, *, owed: bool
    ) -> tuple[bool, float]:
        from valkey.exceptions import ValkeyError

        key = f"winnow.rate.{digest(bucket).hex()[:32]}"
        try:
            ok, full = await self._script(keys=[key], args=[span, most, int(owed), LONGEST_SECONDS])
        except (ValkeyError, OSError, TimeoutError):
            raise WinnowError("UPSTREAM_UNAVAILABLE", "Valkey does not answer") from None
        return bool(ok), float(full)

    async def close(self) -> None:
        await self._client.aclose()


def digest(bucket: str) -> bytes:
    """What a bucket is called outside of this process: keys and addresses of callers stand
    in no other place in the clear."""
    return hashlib.sha256(bucket.encode()).digest()


class Shared:
    """A store that several processes share; where it does not answer, each has buckets of
    its own.

    Args:
        store: that they share.
    """

    def __init__(self, store: Store) -> None:
        self.name = store.name
        self._store = store
        self._own = MemoryStore()
        self._away_until = 0.0
        self._alone = metrics.RATE_FALLBACKS.labels(store.name)

    async def take(
        self, bucket: str, span: float, most: float, *, owed: bool
    ) -> tuple[bool, float]:
        if time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(_STORE_SECONDS):
                    return await self._store.take(bucket, span, most, owed=owed)
            except TimeoutError:
                self._leave("DEADLINE_EXCEEDED")
            except WinnowError as error:
                if error.reason == "UNAUTHENTICATED":
                    raise  # it is there, and lets nobody in with this key
                if error.reason != "OVERLOADED":
                    self._leave(error.reason)
        self._alone.inc()
        return await self._own.take(bucket, span, most, owed=owed)

    def _leave(self, reason: str) -> None:
        _log.warning("rate.alone", status="error", store=self.name, reason=reason)
        self._away_until = time.monotonic() + _AWAY_SECONDS

    async def close(self) -> None:
        await self._store.close()


def make_store(named: str, in_postgres: Callable[[], Store]) -> Store:
    """The store that a setting names.

    Args:
        named: the setting.
        in_postgres: makes the way to the buckets in PostgreSQL.

    Raises:
        ConfigError: it names none.
    """
    if named == "memory":
        return MemoryStore()
    if named == "postgres":
        return Shared(in_postgres())
    if named.partition("://")[0] in ("valkey", "valkeys", "unix"):
        return Shared(ValkeyStore(named))
    raise ConfigError("WINNOW_RATE_STORE: must be memory, postgres, or valkey://host:port")


class Buckets:
    """Buckets of one size.

    Args:
        store: where they are.
        capacity: tokens that a bucket holds.
        refill: tokens that come back in a second.
    """

    def __init__(self, store: Store, capacity: float, refill: float) -> None:
        self.capacity = capacity
        self.refill = refill
        self._store = store
        self._taken, self._refused = (
            metrics.RATE_TAKES.labels(store.name, outcome) for outcome in metrics.TAKES
        )

    async def take(self, name: str, cost: float, *, owed: bool = False) -> Taken:
        """Takes tokens, if there are so many; those that are owed in any case.

        Args:
            name: of the bucket.
            cost: how many.
        """
        span, most = cost / self.refill, self.capacity / self.refill
        ok, full = await self._store.take(name, span, most, owed=owed)
        (self._taken if ok else self._refused).inc()
        left = max(math.floor(self.capacity - full * self.refill + 1e-6), 0)
        return Taken(ok, left, 0.0 if ok else max(full + span - most, 0.0), full)

    async def close(self) -> None:
        """Closes the store."""
        await self._store.close()


class Rate:
    """Takes the price of requests.

    Args:
        buckets: where tokens are.
        per_mib: tokens for each MiB of a body.
    """

    def __init__(self, buckets: Buckets, per_mib: float) -> None:
        self._buckets = buckets
        self._per_mib = per_mib
        window = math.ceil(buckets.capacity / buckets.refill)
        self._policy = f'"key";q={math.floor(buckets.capacity)};w={window}'

    @classmethod
    def of(cls, settings: LimitSettings, in_postgres: Callable[[], Store]) -> Rate | None:
        """The rate that is set; None for none.

        Args:
            in_postgres: as for `make_store`.

        Raises:
            ConfigError: the store is none, or a bucket would not get full in a day.
        """
        if not settings.rate_capacity:
            return None
        if settings.rate_capacity > settings.rate_refill_per_second * LONGEST_SECONDS:
            raise ConfigError(
                "WINNOW_RATE_REFILL_PER_SECOND: too little, an empty bucket must be full again "
                "within a day; raise it, or lower WINNOW_RATE_CAPACITY"
            )
        store = make_store(settings.rate_store.get_secret_value(), in_postgres)
        buckets = Buckets(store, settings.rate_capacity, settings.rate_refill_per_second)
        return cls(buckets, settings.rate_cost_per_mib)

    async def take(self, caller: str, size: int) -> dict[str, str]:
        """Takes what a request costs whose body is known to have `size` bytes.

        Returns:
            The header fields that tell of it (draft-ietf-httpapi-ratelimit-headers).

        Raises:
            WinnowError: RATE_LIMITED, with these fields in `headers`.
        """
        # What is larger than a bucket costs all of it, or it would never pass.
        cost = min(1 + self._per_mib * size / _MIB, self._buckets.capacity)
        taken = await self._buckets.take(caller, cost)
        fields = {
            "RateLimit-Policy": self._policy,
            "RateLimit": f'"key";r={taken.left};t={math.ceil(taken.full)}',
        }
        if not taken.ok:
            error = WinnowError(
                "RATE_LIMITED",
                "this key has used up its rate; send again after the time given (Retry-After, RetryInfo)",
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

    @classmethod
    def of(cls, settings: LimitSettings) -> Places | None:
        """As many as are set; None for any number."""
        if not settings.concurrency:
            return None
        return cls(settings.concurrency, settings.tenant_concurrency, settings.concurrency_patience)

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


class Streams:
    """Bounds what is open for long, and takes no place; nobody waits for it.

    Args:
        most: streams in all.
        of_one: streams that one caller may have.
    """

    def __init__(self, most: int = STREAMS, of_one: int = STREAMS_OF_ONE) -> None:
        self._free = most
        self._of_one = of_one
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: str) -> Iterator[None]:
        """Is entered as long as a stream is open.

        Args:
            caller: whose it is.

        Raises:
            WinnowError: OVERLOADED.
        """
        if not self._free or self._open[caller] >= self._of_one:
            raise WinnowError(
                "OVERLOADED",
                "as many streams are open as may be at a time",
                retry_after=_AGAIN_SECONDS,
                backpressure="streams",
            )
        self._free -= 1
        self._open[caller] += 1
        try:
            yield
        finally:
            self._free += 1
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


class Limits:
    """What those may send who show their keys to a service directly.

    Args:
        rate: by key; None for none.
        places: calls at work at a time; None for as many as come.
    """

    def __init__(self, rate: Rate | None, places: Places | None) -> None:
        self._rate = rate
        self._places = places

    @asynccontextmanager
    async def within(
        self, tenant: str, key: str, size: int, *, counted: bool, turn: bool
    ) -> AsyncIterator[Callable[[int], None]]:
        """Is entered once a call's price is paid, and it has a place until it is left.

        Args:
            tenant: whose the key is.
            key: its id.
            size: bytes of the request.
            counted: whether its price is paid already.
            turn: whether it needs a place; what waits for events takes nobody's.

        Returns:
            What is to be told how many bytes have come later.

        Raises:
            WinnowError: RATE_LIMITED, OVERLOADED.
        """
        name, later = bucket_of(key), 0

        def add(more: int) -> None:
            nonlocal later
            later += more

        rate = None if counted else self._rate
        places = self._places if turn else None
        if rate:
            await rate.take(name, size)
        if places:
            await places.take(tenant, key)
        try:
            yield add
        finally:
            if places:
                places.leave(tenant)
            if rate and later:
                await rate.owe(name, later)

    async def close(self) -> None:
        """Closes what the rate is kept in."""
        if self._rate:
            await self._rate.close()


def bucket_of(key: str) -> str:
    """The name of a key's bucket, the same wherever the key is shown."""
    return f"key {key}"
