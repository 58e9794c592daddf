"""Logs: one JSON object a line on stdout, the same keys on every line.

`timestamp, level, service, request_id, tenant, asset_key, report_id, action,
status` are always there (empty if unknown); the redactor is the last processor
before rendering, so that nothing added earlier escapes it. The standard
library's logging goes the same way.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import structlog

from runtime.redaction import redact

KEYS = (
    "timestamp",
    "level",
    "service",
    "request_id",
    "tenant",
    "asset_key",
    "report_id",
    "action",
    "status",
)

_Event = MutableMapping[str, Any]


def _shape(service: str) -> structlog.typing.Processor:
    def shape(_logger: Any, _method: str, event: _Event) -> _Event:
        event["service"] = service
        event["action"] = event.pop("event", "")
        ordered = {key: event.pop(key, "") for key in KEYS}
        return {**ordered, **event}

    return shape


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, dict):
        return {redact(str(k)): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value if isinstance(value, int | float | bool | type(None)) else redact(str(value))


def _redact(_logger: Any, _method: str, event: _Event) -> _Event:
    return {key: _clean(value) for key, value in event.items()}


class _Steady:
    """A stream that takes what it can: a full disk under the log must not end the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure(service: str, level: str = "INFO") -> None:
    """Sends all logs of this process to stdout as JSON lines.

    Args:
        service: name on every line.
        level: DEBUG, INFO, WARNING or ERROR.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Exceptions are rendered as type and place only: an exception's text may
    # quote the input (JSON decoders and database drivers do).
    last: list[structlog.typing.Processor] = [
        _exception_place,
        _shape(service),
        _redact,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=_Steady(sys.stdout)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    logging.captureWarnings(True)
    # A caller that has gone away is no error of ours; handlers' own failures are logged
    # by the interceptor.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: "ExecuteBatchError" not in record.getMessage()
    )


def _exception_place(_logger: Any, _method: str, event: _Event) -> _Event:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["error_type"] = info[0].__qualname__
        places = []
        trace = info[2]
        while trace is not None:
            code = trace.tb_frame.f_code
            module = trace.tb_frame.f_globals.get("__name__", "?")
            places.append(f"{module}:{code.co_name}:{trace.tb_lineno}")
            trace = trace.tb_next
        event["error_at"] = places[-8:]
    return event


def get_logger() -> Any:
    """A logger whose first argument is the action, e.g. `log.info("report.done", status="done")`."""
    return structlog.get_logger()


@contextmanager
def bind(**values: str) -> Iterator[None]:
    """Adds keys to every log line of the current task until the block ends."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
