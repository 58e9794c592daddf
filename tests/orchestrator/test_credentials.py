"""One credential over reports, tools and places, through the real services."""

from __future__ import annotations

import grpc
import pytest

from runtime.channels import PeerStatus
from runtime.errors import WinnowError, from_rpc
from tests.ingestor.reading_reports import dump, gitleaks, trufflehog
from tests.orchestrator.conftest import Asker
from winnow.finding.v1.verdict_pb2 import Risk
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.report.v1.credential_service_pb2 import GetCredentialRequest, ListCredentialsRequest
from winnow.report.v1.report_service_pb2 import (
    FINDING_VIEW_FULL,
    GetReportRequest,
    ListFindingsRequest,
    ListFormatsRequest,
)


async def fingerprint(alone: Asker, report_id: str, ordinal: int = 0) -> str:
    found = await alone.ListFindings(
        ListFindingsRequest(report_id=report_id, view=FINDING_VIEW_FULL)
    )
    return str(found.findings[ordinal].detail.value_fingerprint)


async def credentials(alone: Asker, **query) -> list:
    found, token = [], ""
    while True:
        page = await alone.ListCredentials(
            ListCredentialsRequest(page_size=2, page_token=token, **query)
        )
        found += page.credentials
        token = page.next_page_token
        if not token:
            return found


async def refused(call) -> WinnowError:
    status = PeerStatus(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(status.of(caught.value), "orchestrator")


async def test_one_credential_in_two_reports_of_two_tools(alone: Asker) -> None:
    shared = "made-up-shared-7Q2w9"
    first = await alone.submit(
        dump([gitleaks(1, Secret=shared), gitleaks(2, Secret=shared), gitleaks(3)]),
    )
    second = await alone.submit(dump(trufflehog(4, Raw=shared)) + b"\n" + dump(trufflehog(5)))
    print_of = await fingerprint(alone, first.report_id)
    found = await alone.GetCredential(GetCredentialRequest(fingerprint=print_of))
    credential = found.credential
    assert credential.fingerprint == print_of
    assert (credential.findings, credential.reports, credential.paths) == (3, 2, 3)
    assert list(credential.tools) == ["gitleaks", "trufflehog"]
    assert list(credential.rules) == ["AWS", "generic-api-key"]
    assert credential.value_preview == f"… ({len(shared)} characters)"
    assert credential.first_seen_at.ToDatetime() < credential.last_seen_at.ToDatetime()
    assert credential.risk in (Risk.RISK_HIGH, Risk.RISK_MEDIUM, Risk.RISK_LOW)
    # Newest report first, then by ordinal.
    assert [sighting.finding_id for sighting in found.sightings] == [
        f"{second.report_id}.0",
        f"{first.report_id}.0",
        f"{first.report_id}.1",
    ]
    assert found.sightings[0].path == "src/app_4.py"
    assert found.sightings[1].line == 2
    token, paged = "", []
    while True:
        page = await alone.GetCredential(
            GetCredentialRequest(fingerprint=print_of, page_size=1, page_token=token)
        )
        paged += page.sightings
        token = page.next_page_token
        if not token:
            break
    assert paged == list(found.sightings)


async def test_credentials_are_listed_by_fingerprint_and_filtered(alone: Asker) -> None:
    one = await alone.submit(dump([gitleaks(n, Secret=f"made-up-{n}-x8Kq") for n in range(5)]))
    two = await alone.submit(
        dump([gitleaks(n + 50, Secret=f"made-up-{n}-x8Kq") for n in range(2, 7)])
    )
    everything = await credentials(alone)
    assert [c.fingerprint for c in everything] == sorted({c.fingerprint for c in everything})
    assert len(everything) == 7
    assert len(await credentials(alone, report_id=one.report_id)) == 5
    both = await credentials(alone, min_reports=2)
    assert len(both) == 3
    assert all(c.reports == 2 for c in both)
    only_two = await credentials(alone, report_id=two.report_id, min_reports=2)
    assert [c.fingerprint for c in only_two] == [c.fingerprint for c in both]
    page = await alone.ListCredentials(ListCredentialsRequest(page_size=1))
    error = await refused(
        alone.ListCredentials(
            ListCredentialsRequest(page_size=1, min_reports=2, page_token=page.next_page_token)
        )
    )
    assert error.reason == "PAGE_TOKEN_INVALID"


async def test_findings_without_a_value_are_no_credentials(alone: Asker) -> None:
    report = await alone.submit(dump([gitleaks(n, Secret="REDACTED") for n in range(3)]))
    assert await credentials(alone) == []
    stored = (await alone.GetReport(GetReportRequest(report_id=report.report_id))).report
    [notice] = stored.notices
    assert notice.kind == NoticeKind.NOTICE_KIND_VALUES_REDACTED
    assert notice.records == 3


@pytest.mark.parametrize("text", ["", "00", "0" * 64, "zz" * 32, "Ä" * 10])
async def test_what_is_no_known_fingerprint_is_not_found(alone: Asker, text: str) -> None:
    error = await refused(alone.GetCredential(GetCredentialRequest(fingerprint=text)))
    assert error.reason == "CREDENTIAL_NOT_FOUND"


async def test_another_tenant_sees_none_of_it(alone: Asker) -> None:
    report = await alone.submit(dump([gitleaks(1)]))
    print_of = await fingerprint(alone, report.report_id)
    other = (("x-winnow-tenant", "other"),)
    listed = await alone.ListCredentials(ListCredentialsRequest(), other)
    assert not listed.credentials
    call = alone.GetCredential(GetCredentialRequest(fingerprint=print_of), other)
    assert (await refused(call)).reason == "CREDENTIAL_NOT_FOUND"


async def test_drift_is_told_on_the_report_and_loses_nothing(alone: Asker) -> None:
    records = [gitleaks(n, Novelty={"a": 1}, **({"Match": None} if n else {})) for n in range(4)]
    report = await alone.submit(dump(records))
    assert (report.records.read, report.records.findings) == (4, 4)
    told = {(notice.kind, notice.field): notice.records for notice in report.notices}
    assert told == {
        (NoticeKind.NOTICE_KIND_UNKNOWN_FIELD, "Novelty"): 4,
        (NoticeKind.NOTICE_KIND_MISSING_FIELD, "Match"): 3,
    }
    assert report.dialect.startswith("gitleaks 8")


async def test_the_formats_are_the_ingestors(alone: Asker) -> None:
    known = (await alone.ListFormats(ListFormatsRequest())).formats
    assert {"gitleaks", "trufflehog", "sarif"} <= {described.id for described in known}
    assert all(described.title and described.kinds for described in known)
