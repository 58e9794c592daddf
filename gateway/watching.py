"""Reports that are watched: one call to the orchestrator for each, however many watch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import cached_property

from gateway import answers
from gateway.backends import ORCHESTRATOR, Backends, calling
from gateway.cloudevents import cloud_event, short_type
from gateway.translate import to_json
from runtime import context
from runtime.channels import call
from runtime.feeds import Feeds
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.report.v1.report_service_pb2 import WatchReportRequest

# Seconds after which a silent stream says that it is still there.
PULSE_SECONDS = 15.0


class Event:
    """An event, encoded once for all who get it.

    Args:
        envelope: as the orchestrator told it.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self.ordinal = envelope.ordinal

    @cached_property
    def plain(self) -> bytes:
        """The envelope as JSON, on one line."""
        return answers.encode(to_json(self._envelope))

    @cached_property
    def cloud(self) -> bytes:
        """The event as a CloudEvent, on one line."""
        return answers.encode(cloud_event(self._envelope))

    @cached_property
    def name(self) -> bytes:
        """What happened, e.g. "report.progress"."""
        return short_type(self._envelope).encode()

    def server_sent(self, *, cloud: bool) -> bytes:
        """The event for a stream of server-sent events."""
        data = self.cloud if cloud else self.plain
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.ordinal, self.name, data)


class Watches:
    """Follows reports for the clients of one gateway.

    Args:
        backends: where the orchestrator is.
    """

    def __init__(self, backends: Backends) -> None:
        self._reports = backends.reports
        self._feeds = Feeds(self._watch)

    def follow(self, report_id: str, after: int) -> AsyncGenerator[list[Event], None]:
        """A report's events after ordinal `after`, in batches, to its end; an empty batch
        when nothing has happened for a while.

        Raises:
            WinnowError: what WatchReport raised.
        """
        # Who asks as somebody else, or with another key, may not see the same; nor do
        # signed requests share, of which each has a grant of its own.
        key = (context.tenant.get(), context.authorization.get(), report_id)
        return self._feeds.follow(key, after, PULSE_SECONDS)

    async def _watch(
        self, key: tuple[str, str, str], after: int
    ) -> AsyncGenerator[list[Event], None]:
        *_, report_id = key
        request = WatchReportRequest(report_id=report_id, after_ordinal=after)
        watch = self._reports.WatchReport(request, **call(None))
        try:
            with calling(ORCHESTRATOR):
                async for told in watch:
                    yield [Event(told.event)]
        finally:
            watch.cancel()
