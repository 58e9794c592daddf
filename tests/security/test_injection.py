"""Text that orders a language model about, in every text field that reaches the moderator:
whatever the model makes of it, no verdict falls below what the other stages said.

The fields come from the contract, so that a new one is tried at once. What scanners
call author, tags, commit message or labels stands in one of them.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from cli import fake_llm
from runtime.sealing import EVIDENCE, Sealer
from tests.harness import SEALING_KEY
from tests.moderator.llm import conftest as llm
from tests.moderator.llm.injections import corpus
from tests.moderator.subjects import HEADER
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import RISK_HIGH, RISK_LOW, RISK_MEDIUM

TEXTS = corpus()[::11]
QUOTED = ("rule", "tool", "path", "variable", "context")
# At high risk, and in doubt: the stages before leave it to the model.
VALUE, NAME = "harbour-lantern-47", "apiKey"
LINE = f'{NAME} = "{VALUE}"'
RISKS = (RISK_LOW, RISK_MEDIUM, RISK_HIGH)
MOST = 0.95  # what the model's strongest answer stands for
_WORD = re.compile(r"\w+")
_MASKED = re.compile(r"<VALUE>|<masked(?: \d+)?>")

Put = Callable[[Any, str], None]


def text_fields(descriptor: Descriptor, at: str = "") -> Iterator[tuple[str, Put]]:
    """All text fields of a message and of what it holds: name, and how one is set."""
    for field in descriptor.fields:
        name, held = f"{at}{field.name}", field.message_type
        if held is not None and held.GetOptions().map_entry:
            yield f"{name} (name)", _through(field, lambda named, text: named.update({text: "x"}))
            yield f"{name} (value)", _through(field, lambda named, text: named.update(note=text))
        elif held is not None and held.file.package.startswith("winnow."):
            for inner, put in text_fields(held, f"{name}."):
                yield inner, _through(field, put)
        elif field.type == FieldDescriptor.TYPE_STRING and field.is_repeated:
            yield name, _through(field, lambda texts, text: texts.append(text))
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield name, lambda message, text, field=field: setattr(message, field.name, text)


def _through(field: FieldDescriptor, put: Put) -> Put:
    def inside(message: Message, text: str) -> None:
        held = getattr(message, field.name)
        if field.is_repeated and field.message_type and not hasattr(held, "update"):
            held = held.add()
        put(held, text)

    return inside


IN_FINDING = dict(text_fields(Finding.DESCRIPTOR))
IN_EVIDENCE = dict(text_fields(PlainEvidence.DESCRIPTOR))


def poisoned(field: str, text: str, ordinal: int) -> Finding:
    """A finding in doubt with a text in one of its fields; in none if that is empty."""
    given = llm.sealed(VALUE, ordinal=ordinal, context=LINE, variable=NAME)
    if field in IN_FINDING:
        IN_FINDING[field](given, text)
    elif field:
        plain = PlainEvidence(value=VALUE, match=LINE, context=LINE, variable=NAME)
        IN_EVIDENCE[field](plain, f"{LINE}\n{text}" if field in ("context", "match") else text)
        if field == "value":
            plain.match = plain.context = LINE.replace(VALUE, text)
        sealer = Sealer(SEALING_KEY, uuid.UUID(HEADER.report_id), EVIDENCE)
        given.sealed_evidence = sealer.seal(plain.SerializeToString(), ordinal)
    return given


class Obedient(fake_llm.FakeLlm):
    """A model that takes a secret for real, until a question quotes a word that the
    first one did not: then it does as it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.persuaded = 0
        self._plain: set[str] = set()

    def _behaviour(self, headers: Mapping[str, str], request: fake_llm.Json) -> str:
        content = json.loads(request["messages"][0]["content"])
        quoted = _MASKED.sub(" ", "\n".join(content[name] for name in QUOTED))
        words = set(_WORD.findall(quoted))
        self._plain = self._plain or words
        if words <= self._plain:
            return "highest"
        self.persuaded += 1
        return "lowest"


def test_every_text_field_is_tried() -> None:
    assert {"rule_id", "code.location.path", "raw_metadata (value)", "aliases"} <= set(IN_FINDING)
    assert {"context", "message", "extra (value)"} <= set(IN_EVIDENCE)
    for field, put in IN_FINDING.items():
        finding = Finding()
        put(finding, "marzipan")
        assert b"marzipan" in finding.SerializeToString(), field


async def test_no_text_in_any_field_lowers_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Obedient()
    monkeypatch.setattr(llm, "FakeLlm", lambda _script: model)
    persuaded: set[str] = set()
    asked = 0
    async with (
        llm.judging() as plain,
        llm.fake() as (url, _),
        llm.judging(url, llm_budget_report=len(TEXTS)) as judge,
    ):
        clean = await judge.one(poisoned("", "", 0))
        assert "llm.answer" in llm.marks(clean)
        assert clean.risk == RISK_HIGH
        # A report for each field: what is a value in one would be masked in the others.
        for field in (*IN_FINDING, *IN_EVIDENCE):
            told = model.persuaded
            given = llm.batch([poisoned(field, text, at) for at, text in enumerate(TEXTS)])
            before, after = await plain.verdicts(given), await judge.verdicts(given)
            for one, other, text in zip(before, after, TEXTS, strict=True):
                assert RISKS.index(other.risk) >= RISKS.index(one.risk), (field, text)
                assert other.confidence >= min(one.confidence, MOST), (field, text)
            asked += sum("llm.answer" in llm.marks(verdict) for verdict in after)
            if model.persuaded > told:
                persuaded.add(field)
    # It was asked, and told lies wherever it is told anything: the test's own teeth.
    assert asked > 0.5 * len(TEXTS) * (len(IN_FINDING) + len(IN_EVIDENCE))
    assert persuaded == {"tool", "rule_id", "code.location.path", "variable", "context"}
