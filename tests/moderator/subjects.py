"""Findings for the moderator's tests, and tokens assembled from harmless parts."""

from __future__ import annotations

import random
import string
import zlib

from moderator.stage import Opinion, Subject
from moderator.stages.heuristics import STAGE
from winnow.finding.v1 import finding_pb2 as pb
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader

HEADER = ModerateHeader(
    report_id="00000000-0000-4000-8000-000000000001", scanner_type="gitleaks", asset_key="demo"
)
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def drawn(size: int, alphabet: str = BASE62, seed: int = 7) -> str:
    """Random-looking text, the same for the same arguments."""
    return "".join(random.Random(seed).choices(alphabet, k=size))


def checksummed(prefix: str, *, good: bool = True) -> str:
    """A token with a CRC-32 tail in base 62, right or wrong."""
    body = drawn(30)
    number = zlib.crc32(body.encode()) ^ (0 if good else 1)
    tail = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        tail = BASE62[digit] + tail
    return prefix + body + tail


def finding(
    path: str = "src/main.py", rule: str = "generic-api-key", **fields: object
) -> pb.Finding:
    values: dict[str, object] = {
        "kind": pb.FINDING_KIND_POSSIBLE_SECRET,
        "tool": "gitleaks",
        "rule_id": rule,
        "value_state": pb.VALUE_STATE_PRESENT,
    }
    result = pb.Finding(**(values | fields))  # type: ignore[arg-type]
    result.code.location.path = path
    return result


def judge(
    value: str,
    *,
    name: str = "",
    line: str = "",
    path: str = "src/main.py",
    rule: str = "generic-api-key",
    **fields: object,
) -> Opinion:
    """The heuristics' opinion on one finding that holds this value."""
    line = line or f'{name or "it"} = "{value}"'
    evidence = PlainEvidence(value=value, match=line, variable=name)
    subject = Subject(finding(path, rule, **fields), evidence, HEADER)
    (opinion,) = STAGE.judge([subject])
    assert opinion is not None
    return opinion


def rules_of(opinion: Opinion) -> set[str]:
    return {seen.rule for seen in opinion.observations}
