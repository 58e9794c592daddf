"""Against the real API: only where ANTHROPIC_API_KEY is set (`-m live`)."""

from __future__ import annotations

import os

import pytest

from tests.moderator.llm.conftest import judging, marks, sealed
from winnow.finding.v1 import finding_pb2 as pb
from winnow.finding.v1.verdict_pb2 import VERDICT_SOURCE_LLM

KEY = os.environ.get("ANTHROPIC_API_KEY", "")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not KEY, reason="ANTHROPIC_API_KEY is not set"),
    pytest.mark.usefixtures("stated"),
]


async def test_the_real_model_answers_in_our_form() -> None:
    given = sealed(
        "correct-horse-staple",
        variable="db_password",
        path="deploy/production/database.yml",
        context='production:\n  username: shop\n  db_password: "correct-horse-staple"\n',
        severity=pb.SEVERITY_MEDIUM,
    )
    async with judging("https://api.anthropic.com", llm_api_key=KEY) as judge:
        verdict = await judge.one(given)
    assert marks(verdict)[0] == "llm.answer"
    assert verdict.source == VERDICT_SOURCE_LLM
    assert verdict.confidence >= 0.6
