"""What the services count and measure: one table, exposed for Prometheus.

Names and units follow Prometheus' conventions: base units, `_total` for counters. A
label takes few values, all of them ours: never an id, a path or a tenant. Where they
are known beforehand their series are there from the start, at zero, so that an alert
sees the first increase.

Each service has a registry with the metrics that are its own. Counting costs a few
microseconds, so it is done for a call, a batch, a transaction; never for a finding.
"""

from __future__ import annotations

import asyncio
import math
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from itertools import product
from socket import socket
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any, NamedTuple, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)

from runtime import tracing
from runtime.errors import MAPPINGS, WinnowError

GATEWAY, ORCHESTRATOR, INGESTOR, MODERATOR, AUDIT = SERVICES = (
    "gateway",
    "orchestrator",
    "ingestor",
    "moderator",
    "audit",
)
GRPC = (ORCHESTRATOR, INGESTOR, MODERATOR, AUDIT)
DATABASE = (ORCHESTRATOR, AUDIT)
# What counts its callers' calls; what has breakers for those that it calls itself.
COUNTING = (GATEWAY, ORCHESTRATOR, AUDIT)
CALLING = (GATEWAY, ORCHESTRATOR)

# How a call ends: well; refused, which is its caller's to mend; failed, which is ours;
# left by its caller.
OUTCOMES = ("ok", "refused", "failed", "cancelled")
# How a job leaves a worker: done; to be tried again; failed for good, and written down;
# a dead letter; taken from it, or put back when it stopped.
JOB_OUTCOMES = ("done", "retry", "failed", "dead", "lost")
JOB_STATES = ("waiting", "delayed", "running", "retried", "dead")
BREAKER_STATES = ("closed", "open", "half_open")
# Whether tokens were there.
TAKES = ("taken", "refused")
RATE_STORES = ("memory", "valkey", "postgres")
RISKS = ("high", "medium", "low")
JUDGES = ("heuristic", "ml", "llm", "human")
# How a call to the language model ends, and why a finding is judged without it.
LLM_OUTCOMES = (
    "ok",
    "timeout",
    "rate_limited",
    "overloaded",
    "unavailable",
    "misconfigured",
    "refused",
    "invalid",
    "deadline",
)
LLM_UNANSWERED = (*LLM_OUTCOMES[1:], "budget", "breaker", "withheld")

_PATIENCE_SECONDS = 10.0
_FACTS_SECONDS = 3.0

_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

_M = TypeVar("_M", Counter, Gauge, Histogram)
# The values of a label: all of them, or in words what they are.
Values = tuple[str, ...] | str


class Described(NamedTuple):
    """A row of the table."""

    metric: Counter | Gauge | Histogram
    kind: str
    name: str
    help: str
    services: tuple[str, ...]
    labels: Mapping[str, Values]


# A series more for each, of when it began, which nobody asks for.
disable_created_metrics()

TABLE: list[Described] = []
_REGISTRIES = {service: CollectorRegistry() for service in SERVICES}


def _described(metric: _M, kind: str, services: Iterable[str], labels: Mapping[str, Values]) -> _M:
    (family,) = metric.describe()
    name = family.name + ("_total" if kind == "counter" else "")
    row = Described(metric, kind, name, family.documentation, tuple(services), labels)
    TABLE.append(row)
    for service in row.services:
        _REGISTRIES[service].register(metric)
    known = [values for values in labels.values() if not isinstance(values, str)]
    if labels and len(known) == len(labels):
        for values in product(*known):
            metric.labels(*values)
    return metric


def _counter(name: str, text: str, services: Iterable[str], **labels: Values) -> Counter:
    metric = Counter(name, text, labels, registry=None)
    return _described(metric, "counter", services, labels)


def _gauge(name: str, text: str, services: Iterable[str], **labels: Values) -> Gauge:
    return _described(Gauge(name, text, labels, registry=None), "gauge", services, labels)


def _histogram(
    name: str, text: str, services: Iterable[str], buckets: tuple[float, ...], **labels: Values
) -> Histogram:
    metric = Histogram(name, text, labels, buckets=buckets, registry=None)
    return _described(metric, "histogram", services, labels)


_RPC = "RPC of the contracts, `ReportService/GetReport`"
_ROUTE = "method and route of the API, `GET /reports/{report_id}`; `other` for a method that the route does not have"
_SCANNER = "`scanner_type` of docs/formats.md, or `unknown`"
_KIND = "kind of job, `report.run`"
_PEER = "service that is called"
_POOL = "`main`, of requests; `background`; `leases`: of heartbeats; `keys`: of who calls; `rates`: of buckets"
# In words: a series of a certificate that there is not would say that it ended in 1970.
_CERTIFICATE = (
    "`own`, for calls between services; `authority`, that it is of; `https`, the gateway's"
)

# fmt: off
BUILD_INFO = _gauge("winnow_build_info", "Always 1.", SERVICES, version="of Winnow", python="of Python")
CERTIFICATE_BEGINS = _gauge("winnow_certificate_not_before_timestamp_seconds", "When the certificate that is in use begins, in Unix time.", SERVICES, certificate=_CERTIFICATE)
CERTIFICATE_ENDS = _gauge("winnow_certificate_not_after_timestamp_seconds", "When the certificate that is in use ends, in Unix time.", SERVICES, certificate=_CERTIFICATE)
REFUSALS = _counter("winnow_refusals_total", "Answers with an error, by its reason.", SERVICES, reason=tuple(MAPPINGS))

HTTP_REQUESTS = _counter("winnow_http_requests_total", "Requests that have ended; health checks are not counted.", [GATEWAY], route=_ROUTE, outcome=OUTCOMES)
HTTP_SECONDS = _histogram("winnow_http_request_duration_seconds", "From a request's head to its answer's.", [GATEWAY], _LONG, route=_ROUTE)
HTTP_IN_FLIGHT = _gauge("winnow_http_requests_in_flight", "Requests that have not ended, watchers among them.", [GATEWAY])

RATE_TAKES = _counter("winnow_rate_takes_total", "Times that tokens were asked for, by where the buckets are.", COUNTING, store=RATE_STORES, outcome=TAKES)
RATE_FALLBACKS = _counter("winnow_rate_fallbacks_total", "Times that they came from the process's own buckets, since the shared store did not answer.", COUNTING, store=RATE_STORES[1:])
RATE_BUCKETS = _gauge("winnow_rate_buckets", "Buckets that are kept: in this process's memory; in PostgreSQL, as the orchestrator sees them.", COUNTING, store=("memory", "postgres"))

BREAKER_STATE = _gauge("winnow_breaker_state", "1 for the state that the breaker of a service is in, 0 for the others; half open, the next call probes.", CALLING, peer=_PEER, state=BREAKER_STATES)
BREAKER_OPENED = _counter("winnow_breaker_opened_total", "Times that a breaker opened, again after a probe that failed among them.", CALLING, peer=_PEER)

RPCS = _counter("winnow_rpcs_total", "RPCs that have ended; health and reflection are not counted.", GRPC, method=_RPC, outcome=OUTCOMES)
RPC_SECONDS = _histogram("winnow_rpc_duration_seconds", "How long RPCs took that do not watch.", GRPC, _CALL, method=_RPC)
RPCS_IN_FLIGHT = _gauge("winnow_rpcs_in_flight", "RPCs that have not ended, watchers among them.", GRPC)

REPORTS = _counter("winnow_reports_total", "Reports that have ended.", [ORCHESTRATOR], status=("done", "error"))
REPORT_SECONDS = _histogram("winnow_report_duration_seconds", "From a report's last byte to its last verdict.", [ORCHESTRATOR], _LONG)
FINDINGS = _counter("winnow_findings_total", "Findings whose first verdict was stored.", [ORCHESTRATOR], scanner=_SCANNER, risk=RISKS, source=JUDGES)
REJECTED = _counter("winnow_records_rejected_total", "Records that could not be read.", [ORCHESTRATOR], scanner=_SCANNER)
UNANSWERED = _gauge("winnow_stream_batches_unanswered", "Batches that are at the moderator: credits taken; a report has 16.", [ORCHESTRATOR])
CREDIT_WAIT = _counter("winnow_stream_credit_wait_seconds_total", "Time in which reports waited for a credit.", [ORCHESTRATOR])
WRITE_SECONDS = _histogram("winnow_write_batch_duration_seconds", "Storing what has gathered of a report, in one transaction.", [ORCHESTRATOR], _QUICK)
JOBS = _counter("winnow_jobs_total", "Jobs that left a worker.", [ORCHESTRATOR], kind=_KIND, outcome=JOB_OUTCOMES)
JOB_SECONDS = _histogram("winnow_job_duration_seconds", "How long a worker was at a job.", [ORCHESTRATOR], _LONG, kind=_KIND)
DEAD_LETTERS = _counter("winnow_dead_letters_total", "Events that a consumer gave up; they are kept.", [ORCHESTRATOR])
QUEUE_JOBS = _gauge("winnow_queue_jobs", "Jobs in the queue; `retried` counts those that are failing, again.", [ORCHESTRATOR], kind=_KIND, state=JOB_STATES)
QUEUE_AGE = _gauge("winnow_queue_oldest_age_seconds", "Age of the oldest job that waits or is failing.", [ORCHESTRATOR], kind=_KIND)
OUTBOX_EVENTS = _gauge("winnow_outbox_events", "Events that have not been shipped.", [ORCHESTRATOR], leg=("audit", "transport"))
OUTBOX_AGE = _gauge("winnow_outbox_oldest_age_seconds", "Age of the oldest event that has not been shipped both ways.", [ORCHESTRATOR])
OUTBOX_ROUNDS = _counter("winnow_outbox_rounds_total", "Rounds of shipping; one a second at least.", [ORCHESTRATOR], leg=("audit", "transport"), outcome=("ok", "failed"))
FACTS_FRESH = _gauge("winnow_facts_fresh", "Whether the queue and the outbox could be looked at for this answer; if not, their series are missing.", [ORCHESTRATOR])

INGEST_SECONDS = _histogram("winnow_ingest_batch_duration_seconds", "Reading a batch of findings, a wait for its bytes included.", [INGESTOR], _QUICK)
INGEST_BYTES = _counter("winnow_ingest_bytes_total", "Bytes of reports that were read.", [INGESTOR])
RECORDS = _counter("winnow_ingest_records_total", "Records of reports that were read to their end.", [INGESTOR], scanner=_SCANNER, outcome=("finding", "merged", "rejected"))

MODERATE_SECONDS = _histogram("winnow_moderate_batch_duration_seconds", "Judging a batch in the cascade, its wait for the thread included.", [MODERATOR], _QUICK)
VERDICTS = _counter("winnow_verdicts_total", "Verdicts of calls that came to their end.", [MODERATOR], risk=RISKS)
LLM_CALLS = _counter("winnow_llm_calls_total", "Calls to the language model.", [MODERATOR], outcome=LLM_OUTCOMES)
LLM_SECONDS = _histogram("winnow_llm_call_duration_seconds", "How long calls to the language model took.", [MODERATOR], _CALL)
LLM_TOKENS = _counter("winnow_llm_tokens_total", "Tokens that calls took.", [MODERATOR], kind=("input", "output", "cache_read"))
LLM_COST = _counter("winnow_llm_cost_dollars_total", "What calls cost, in US dollars.", [MODERATOR])
LLM_FALLBACKS = _counter("winnow_llm_fallbacks_total", "Findings that keep the verdict of the stages before it, and why.", [MODERATOR], reason=LLM_UNANSWERED)
LLM_BUDGET = _gauge("winnow_llm_budget_used_ratio", "Share of the day's budget that is spent or set aside, 0 to 1.", [MODERATOR])

AUDIT_EVENTS = _gauge("winnow_audit_tree_size_events", "Events in the log, as it was seen last.", [AUDIT])
AUDIT_UNPUBLISHED = _gauge("winnow_audit_unpublished_events", "Events that no published checkpoint covers; 0 where none is published.", [AUDIT])
AUDIT_LAG = _histogram("winnow_audit_lag_seconds", "From an event to its place in the log: the oldest of each append.", [AUDIT], _LONG)

DATABASE_SIZE = _gauge("winnow_database_connections", "Size of the pool.", DATABASE, pool=_POOL)
DATABASE_BUSY = _gauge("winnow_database_connections_busy", "Connections at work.", DATABASE, pool=_POOL)
DATABASE_WAIT = _histogram("winnow_database_wait_seconds", "Waiting for a connection, where all were at work.", DATABASE, _QUICK, pool=_POOL)
DATABASE_SECONDS = _histogram("winnow_database_transaction_duration_seconds", "Transactions, with the work in them.", DATABASE, _QUICK, pool=_POOL)
# fmt: on


def observe(histogram: Histogram, seconds: float) -> None:
    """Adds a duration, with the current trace as its exemplar if there is one."""
    trace_id = tracing.trace_id()
    histogram.observe(seconds, {"trace_id": trace_id} if trace_id else None)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Adds how long the block takes."""
    started = time.perf_counter()
    try:
        yield
    finally:
        observe(histogram, time.perf_counter() - started)


def refused(reason: str) -> str:
    """Counts an answer with an error.

    Args:
        reason: of winnow.error.v1.

    Returns:
        The outcome of the call that ends so.
    """
    if reason not in MAPPINGS:  # gRPC's own: UNIMPLEMENTED
        return "refused"
    REFUSALS.labels(reason).inc()
    return "failed" if MAPPINGS[reason].http >= 500 else "refused"


class Facts:
    """Gauges that are read where the facts are, when somebody asks.

    Args:
        read: empties them, reads, sets them: where it fails, an old figure would pass
            for a new one.
        fresh_seconds: how long an answer stands, so that asking often costs nothing.
    """

    def __init__(self, read: Callable[[], Awaitable[None]], fresh_seconds: float = 5.0) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._until = -math.inf
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Reads the facts again if they are old."""
        async with self._turn:
            if time.monotonic() < self._until:
                return
            try:
                async with asyncio.timeout(_FACTS_SECONDS):
                    await self._read()
            except (WinnowError, TimeoutError):
                FACTS_FRESH.set(0)  # what else there is to tell is told all the same
            else:
                FACTS_FRESH.set(1)
            self._until = time.monotonic() + self._fresh_seconds


@cache
def registry(service: str) -> CollectorRegistry:
    """The metrics of a service, and of the process that it runs in."""
    BUILD_INFO.labels(version("winnow"), platform.python_version()).set(1)
    found = _REGISTRIES[service]
    ProcessCollector(registry=found)
    return found


class Exposition:
    """Serves a service's metrics over HTTP at /metrics, in a thread of its own.

    Prometheus' text format, or OpenMetrics with exemplars for whoever asks for that.

    Args:
        service: whose metrics.
        listener: a socket that listens; closed by `close`.
        facts: asked before each answer, on the event loop that made this.
    """

    def __init__(self, service: str, listener: socket, facts: Facts | None = None) -> None:
        answer = make_wsgi_app(registry(service))
        loop = asyncio.get_running_loop()

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] != "/metrics":
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"the metrics are at /metrics\n"]
            if facts is not None:
                asyncio.run_coroutine_threadsafe(facts.refresh(), loop).result(_PATIENCE_SECONDS)
            return answer(environ, start_response)

        self._server = _Server(listener, app)
        self.port: int = listener.getsockname()[1]
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Answers nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    # Who says nothing does not keep a thread.
    timeout = _PATIENCE_SECONDS

    def log_message(self, *_: Any) -> None:
        """Nothing: a scrape is no news."""


_READERS = 16


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A thread for each reader, of whom there are few; the others are turned away.
    _places = BoundedSemaphore(_READERS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def __init__(self, listener: socket, app: Any) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.set_app(app)
