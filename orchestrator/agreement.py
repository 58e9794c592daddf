"""Agreement: which other scanners have reported the same credential in the same file.

The moderator's model has learned what it means when several scanners see one
thing, and reads it from a finding's aliases, `scanner/rule` each. They are looked
up before a finding is stored: a verdict is made from what is stored, so that a
replay need not look again, and comes to the same.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from orchestrator import store_findings
from runtime.database import Database
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding

# Aliases that are added: more say no more.
_MOST = 8
# Values that are kept in mind: those that come again and again are seen most often.
_KEPT = 4096

# By value: file name (scanners are started in different folders), scanner, rule.
_Sightings = frozenset[tuple[str, str, str]]
_Seen = dict[bytes, _Sightings]
_NOBODY: _Sightings = frozenset()


class Agreement:
    """Completes findings of one report by what earlier reports say.

    Args:
        database: the orchestrator's.
        report_id: whose findings.
        tenant: whose report.
    """

    def __init__(self, database: Database, report_id: uuid.UUID, tenant: str) -> None:
        self._database = database
        self._report_id = report_id
        self._tenant = tenant
        self._scanner_type = ""
        # Whether there is anything to look up.
        self._others: asyncio.Task[bool] | None = None
        self._known: _Seen = {}

    def begin(self, scanner_type: str) -> None:
        """Looks, while the first findings are read, whether there are others at all.

        Args:
            scanner_type: whose report it is.
        """
        self._scanner_type = scanner_type
        asking = self._report_id, self._tenant, scanner_type
        self._others = asyncio.create_task(
            self._database.run(store_findings.others_reported, *asking)
        )

    async def end(self) -> None:
        """Leaves nothing behind."""
        if self._others is not None:
            await asyncio.gather(self._others, return_exceptions=True)

    async def complete(self, batch: FindingBatch) -> bool:
        """Adds to the aliases of the batch's findings who else saw them.

        Args:
            batch: as the ingestor made it.

        Returns:
            Whether anything was added.
        """
        followed = [(one, value) for one in batch.findings if (value := one.value_fingerprint)]
        await self._look_up({value for _, value in followed})
        together = _together(followed)
        added = False
        for finding, value in followed if self._known or together else ():
            seen = self._known.get(value, _NOBODY) | together.get(value, _NOBODY)
            if seen and (others := _others(finding, seen)):
                finding.aliases.extend(others)
                added = True
        return added

    async def _look_up(self, values: set[bytes]) -> None:
        if not values or self._others is None or not await self._others:
            return
        asking = self._report_id, self._tenant, self._scanner_type
        if len(self._known) > _KEPT:
            self._known.clear()
        if missing := values - self._known.keys():
            self._known.update(dict.fromkeys(missing, _NOBODY))
            for value, path, scanner, rule in await self._database.run(
                store_findings.seen_elsewhere, *asking, missing
            ):
                self._known[value] |= {(_file(path), scanner, rule)}


def _together(followed: Sequence[tuple[Finding, bytes]]) -> _Seen:
    """What the runs of several scanners in one report have seen; a run has one scanner,
    and all its findings stand together."""
    seen: _Seen = {}
    if followed and followed[0][0].tool != followed[-1][0].tool:
        for finding, value in followed:
            one = _file(finding.code.location.path), finding.tool.lower(), finding.rule_id
            seen[value] = seen.get(value, _NOBODY) | {one}
    return seen


def _others(finding: Finding, seen: _Sightings) -> list[str]:
    own, file = finding.tool.lower(), _file(finding.code.location.path)
    others = {
        f"{scanner}/{rule}" for there, scanner, rule in seen if there == file and scanner != own
    }
    return sorted(others)[:_MOST]


def _file(path: str) -> str:
    return path.rpartition("/")[2]
