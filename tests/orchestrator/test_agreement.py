"""Several scanners on one credential: whoever reports later is judged knowing of the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.reading_reports import dump, gitleaks, trufflehog
from tests.orchestrator.conftest import Asker, House
from tests.orchestrator.test_rejudge import rejudge
from winnow.report.v1.report_service_pb2 import FINDING_VIEW_FULL, ListFindingsRequest

# Words and digits, so that the model is asked and not the heuristics alone.
VALUES = [f"harbour-{number}-lantern7" for number in range(3)]


def of_gitleaks(**fields: Any) -> bytes:
    return dump([gitleaks(at, Secret=value, **fields) for at, value in enumerate(VALUES)])


def of_trufflehog() -> bytes:
    return b"\n".join(dump(trufflehog(at, Raw=value)) for at, value in enumerate(VALUES))


def sarif(*runs: tuple[str, str]) -> bytes:
    """One run for each (scanner, rule), all of the same value in the same place."""
    place = {"artifactLocation": {"uri": "src/app_0.py"}}
    return dump(
        {
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": {"name": scanner}},
                    "results": [
                        {
                            "ruleId": rule,
                            "message": {"text": "a key"},
                            "locations": [
                                {
                                    "physicalLocation": place
                                    | {"region": {"startLine": 1, "snippet": {"text": VALUES[0]}}}
                                }
                            ],
                        }
                    ],
                }
                for scanner, rule in runs
            ],
        }
    )


async def findings(alone: Asker, report_id: str) -> list[Any]:
    found = await alone.ListFindings(
        ListFindingsRequest(report_id=report_id, view=FINDING_VIEW_FULL)
    )
    return list(found.findings)


async def aliases(alone: Asker, report_id: str) -> list[list[str]]:
    return [list(one.detail.aliases) for one in await findings(alone, report_id)]


def agreed(one: Any) -> list[str]:
    return [seen.detail for seen in one.detail.evidence if seen.rule == "ml.agreement"]


async def test_the_second_scanner_is_judged_knowing_of_the_first(alone: Asker) -> None:
    first = await alone.submit(of_gitleaks())
    second = await alone.submit(of_trufflehog())
    assert await aliases(alone, first.report_id) == [[]] * 3
    assert await aliases(alone, second.report_id) == [["gitleaks/generic-api-key"]] * 3
    assert [agreed(one) for one in await findings(alone, first.report_id)] == [[]] * 3
    for one in await findings(alone, second.report_id):
        assert agreed(one) == ["another scanner reported it too: gitleaks"]


async def test_both_are_replayed_bit_for_bit(alone: Asker) -> None:
    reports = [await alone.submit(report) for report in (of_gitleaks(), of_trufflehog())]
    reports.append(await alone.submit(of_gitleaks()))
    assert await aliases(alone, reports[2].report_id) == [["trufflehog/AWS"]] * 3
    for report in reports:
        answer = await rejudge(alone, report.report_id)
        assert (answer.judged, answer.same) == (3, 3)


async def test_other_files_and_the_same_scanner_do_not_agree(alone: Asker) -> None:
    await alone.submit(of_gitleaks())
    again = await alone.submit(of_gitleaks(Commit="f" * 40))
    elsewhere = await alone.submit(of_trufflehog().replace(b"src/app_", b"src/other_"))
    other_root = await alone.submit(of_trufflehog().replace(b"src/app_", b"/scan/repo/src/app_"))
    assert await aliases(alone, again.report_id) == [[]] * 3
    assert await aliases(alone, elsewhere.report_id) == [[]] * 3
    assert await aliases(alone, other_root.report_id) == [["gitleaks/generic-api-key"]] * 3


async def test_tenants_do_not_hear_of_each_other(house: House) -> None:
    one, other = Asker(house), Asker(house)
    await one.submit(of_gitleaks())
    report = await other.submit(of_trufflehog())
    assert await aliases(other, report.report_id) == [[]] * 3


async def test_many_rules_are_cut_and_sorted(alone: Asker) -> None:
    await alone.submit(
        dump([gitleaks(0, Secret=VALUES[0], RuleID=f"rule-{at:02}") for at in range(12, 0, -1)])
    )
    report = await alone.submit(dump(trufflehog(0, Raw=VALUES[0])))
    assert await aliases(alone, report.report_id) == [
        [f"gitleaks/rule-{at:02}" for at in range(1, 9)]
    ]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (
            [("gitleaks", "generic-api-key"), ("Kingfisher", "kf.generic.1")],
            [["kingfisher/kf.generic.1"], ["gitleaks/generic-api-key"]],
        ),
        ([("gitleaks", "generic-api-key"), ("gitleaks", "other-key")], [[], []]),
    ],
)
async def test_scanners_in_one_report_agree(
    alone: Asker, runs: list[tuple[str, str]], expected: list[list[str]]
) -> None:
    report = await alone.submit(sarif(*runs))
    assert await aliases(alone, report.report_id) == expected
