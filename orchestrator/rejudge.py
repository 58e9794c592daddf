"""Judging a report once more, from what is stored: replay, preview, remoderation.

The moderator is handed the findings as they are stored, sealed evidence and all,
and the moment that they were judged as of. What it answers is held against the
cascade's newest stored verdict, byte for byte.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection

from orchestrator import (
    events,
    sealing,
    states,
    store,
    store_decisions,
    store_outbox,
    store_rejudge,
)
from orchestrator.service_decisions import settle
from orchestrator.store_rejudge import Judged
from runtime import crash
from runtime.channels import call
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.keyring import Keyring
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import ValueState
from winnow.finding.v1.verdict_pb2 import Verdict, VerdictBatch
from winnow.moderate.v1.moderate_service_pb2 import ModerateBatchRequest, ModerateHeader
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_service_pb2 import RejudgeMode, RejudgeReportResponse
from winnow.seal.v1.data_key_pb2 import DataKey

if TYPE_CHECKING:
    from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceAsyncStub

_BATCH = 256
_DEADLINE = 60.0  # seconds for a batch
_LLM = "llm"
PRESENT = ValueState.VALUE_STATE_PRESENT
# Input of a verdict that was made later than its report: the moment it was made as of.
_AS_OF = "judged_at"


class Rejudging(NamedTuple):
    """What is asked: a report, what for, and how many changes are listed."""

    report: Report
    mode: RejudgeMode.ValueType
    most: int

    @property
    def applies(self) -> bool:
        return self.mode == RejudgeMode.REJUDGE_MODE_APPLY

    @property
    def replays(self) -> bool:
        return self.mode not in (RejudgeMode.REJUDGE_MODE_PREVIEW, RejudgeMode.REJUDGE_MODE_APPLY)

    def header(self, data_key: DataKey, moment: str) -> ModerateHeader:
        """What the moderator is told; `moment` as in `_AS_OF`, empty for the first judging."""
        header = moderate_header(self.report, data_key)
        if moment:
            header.judged_at.FromJsonString(moment)
        header.offline = True
        return header


def moderate_header(report: Report, data_key: DataKey) -> ModerateHeader:
    """What all findings of a report share, for the moderator."""
    return ModerateHeader(
        report_id=report.report_id,
        scanner_type=report.scanner_type,
        asset_key=report.asset_key,
        judged_at=report.created_at,
        data_key=data_key,
    )


class Rejudger:
    """Judges stored reports again.

    Args:
        database: the orchestrator's.
        keyring: tells the data keys of reports of older versions.
        moderator: judges batches.
    """

    def __init__(
        self, database: Database, keyring: Keyring, moderator: ModerateServiceAsyncStub
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._moderator = moderator

    async def run(
        self, report_id: uuid.UUID, tenant: str, mode: RejudgeMode.ValueType, most: int
    ) -> RejudgeReportResponse:
        """One pass over a report's findings.

        Raises:
            WinnowError: REPORT_NOT_FOUND, REPORT_STATE, REPORT_SHREDDED, SEAL_BROKEN, and
                what the moderator raised.
        """
        report = await self._database.run(store.get, report_id, tenant)
        if report.status != states.DONE:
            raise WinnowError(
                "REPORT_STATE",
                "only a report that is done can be judged again",
                report_status=states.name(report.status),
            )
        asked = Rejudging(report, mode, most)
        answer = RejudgeReportResponse()
        present = "" if asked.replays else _now()
        after = -1
        while True:
            data_key, page = await self._database.run(self._page, report, after)
            if not page:
                break
            after = page[-1].ordinal
            for moment, ones in _by_moment(page, present).items():
                made = await self._judge(asked.header(data_key, moment), ones)
                changed = _compare(asked, ones, made, answer)
                if asked.applies and changed:
                    inputs = dict(made.inputs)
                    await self._database.run(self._add, report_id, tenant, changed, inputs, moment)
                    crash.point("rejudge.page")
        report = await self._database.run(store.get, report_id, tenant)
        answer.summary.CopyFrom(report.summary)
        return answer

    def _page(
        self, connection: Connection, report: Report, after: int
    ) -> tuple[DataKey, list[Judged]]:
        """The next findings, with the key that opens them: it is read each time, so that a
        report which is shredded meanwhile is read no further."""
        report_id = uuid.UUID(report.report_id)
        stands = store.get(connection, report_id, report.tenant_id)
        data_key = sealing.data_key(connection, self._keyring, stands)
        page = store_rejudge.page(connection, report_id, report.tenant_id, after, _BATCH)
        for one in page:
            if one.finding.value_state == PRESENT and not one.finding.sealed_evidence:
                raise WinnowError(
                    "SEAL_BROKEN",
                    f"the sealed evidence of finding {one.ordinal} is gone",
                    ordinal=str(one.ordinal),
                )
        return data_key, page

    async def _judge(self, header: ModerateHeader, page: Sequence[Judged]) -> VerdictBatch:
        request = ModerateBatchRequest(
            header=header,
            batch=FindingBatch(findings=[one.finding for one in page]),
            recorded=[one.verdict for one in page if _asked_model(one.verdict)],
        )
        try:
            response = await self._moderator.ModerateBatch(request, **call(_DEADLINE))
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, "moderator") from None
        verdicts: VerdictBatch = response.verdicts
        return verdicts

    @staticmethod
    def _add(
        connection: Connection,
        report_id: uuid.UUID,
        tenant: str,
        changed: Sequence[Verdict],
        inputs: Mapping[str, str],
        moment: str,
    ) -> None:
        """Adds a page's verdicts, and the event that tells of them."""
        at = settle(connection, tenant)
        added = VerdictBatch(verdicts=changed, inputs={**inputs, _AS_OF: moment})
        store_decisions.add_verdicts(connection, report_id, tenant, added, at)
        summary = store.get(connection, report_id, tenant).summary
        event = events.report_event(
            events.REPORT_REMODERATED,
            report_id,
            tenant,
            changed=len(changed),
            inputs=dict(inputs),
            summary={"high": summary.high, "medium": summary.medium, "low": summary.low},
        )
        store_outbox.put(connection, [event])


def _by_moment(page: Sequence[Judged], present: str) -> dict[str, list[Judged]]:
    """Findings by the moment that they are judged as of: `present`, or if that is empty
    each as its verdict was."""
    found: dict[str, list[Judged]] = {}
    for one in page:
        found.setdefault(present or one.inputs.get(_AS_OF, ""), []).append(one)
    return found


def _now() -> str:
    moment = Timestamp()
    moment.FromDatetime(now())
    return moment.ToJsonString()


def _compare(
    asked: Rejudging, page: Sequence[Judged], made: VerdictBatch, answer: RejudgeReportResponse
) -> list[Verdict]:
    """Counts a page's verdicts; those that came out otherwise."""
    by_ordinal = {verdict.ordinal: verdict for verdict in made.verdicts}
    shared = dict(made.inputs)
    answer.inputs.update(shared)
    changed = []
    for one in page:
        after = by_ordinal.get(one.ordinal)
        if after is None:
            raise WinnowError(
                "STREAM_CUT_SHORT", "the moderator left a finding out", service="moderator"
            )
        answer.judged += 1
        answer.other_inputs += any(one.inputs.get(name) != shared[name] for name in shared)
        if _bytes(after) == _bytes(one.verdict):
            answer.same += 1
            continue
        answer.changed += 1
        changed.append(after)
        if len(answer.changes) < asked.most:
            answer.changes.add(
                finding_id=f"{asked.report.report_id}.{one.ordinal}",
                before=one.verdict,
                after=after,
            )
    return changed


def _asked_model(verdict: Verdict) -> bool:
    """Whether a language model had a part in it, or was missed."""
    return any(seen.stage == _LLM for seen in verdict.evidence)


def _bytes(verdict: Verdict) -> bytes:
    return verdict.SerializeToString(deterministic=True)
