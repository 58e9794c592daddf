"""Nothing of a value stands in the clear, and what is sealed opens again."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestor.preview import preview
from ingestor.protect import Protector, timestamp, visible
from ingestor.records import Record, state_of
from tests.fixtures.reports import load_report
from tests.fixtures.tokens import Maker
from tests.fixtures.values import planted_values
from tests.ingestor.reading_reports import (
    KEYS,
    REPORT,
    clear_strings,
    dump,
    evidence,
    gitleaks,
    ingest,
    only,
)
from winnow.finding.v1 import finding_pb2 as pb

FORMS = [
    lambda v: v,
    lambda v: json.dumps(v)[1:-1],
    lambda v: quote(v, safe=""),
    lambda v: v.encode().hex(),
    lambda v: v.encode().hex().upper(),
    *(lambda v, n=n: base64.b64encode(b"x" * n + v.encode() + b"y" * n).decode() for n in range(3)),
    lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
]
VALUE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), min_size=12, max_size=60)  # fmt: skip


def protect(record: Record, report: uuid.UUID = REPORT) -> pb.Finding:
    protector = Protector(KEYS, report)
    protector.add(record, 3)
    return protector.take().findings[0]


def secret(value: str, **fields: Any) -> Record:
    state = pb.VALUE_STATE_PRESENT
    fields = {"rule_id": "r", **fields}
    return Record(raw=b"", tool="t", value=value, value_state=state, **fields)


@given(VALUE, st.sampled_from(FORMS), st.sampled_from(["path", "rule_id", "commit", "container", "native_id", "rule_name", "metadata", "aliases", "more_places"]))  # fmt: skip
def test_no_form_of_the_value_in_any_clear_field(value: str, form: Any, field: str) -> None:
    value = value.strip("\"'`")
    assume(len(value) >= 12)
    hidden = f"a {form(value)} b"
    fields: dict[str, Any] = {
        "metadata": {"Tags": hidden},
        "aliases": [hidden],
        "more_places": [(hidden, 1, 0, 0, 0)],
    }
    finding = protect(secret(value, **{field: fields.get(field, hidden)}))
    clear = " ".join(clear_strings(finding))
    inner = form(value)[3:-6]
    assert value not in clear
    assert len(inner) < 6 or inner not in clear
    assert "[REDACTED]" in clear
    assert evidence(finding).value == value.strip()


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("written", ["made-up-value", 'password = "made-up-value"'])
def test_no_unkeyed_digest_of_the_value_in_any_clear_field(algorithm: str, written: str) -> None:
    """Of the value as it was written, and of the credential in it."""
    for text in (written, "made-up-value"):
        digest = hashlib.new(algorithm, text.encode()).hexdigest()
        for hidden in (digest, digest.upper()):
            finding = protect(secret(written, path=f"a/{hidden}.py", metadata={"id": hidden}))
            assert finding.code.location.path == "a/[REDACTED].py"
            assert hidden not in " ".join(clear_strings(finding))
    other = protect(secret(written, commit="0f" * 20))
    assert other.code.commit == "0f" * 20


@pytest.mark.parametrize(
    "name",
    ["gitleaks.git.json", "gitleaks.git.sarif", "kingfisher.git.sarif", "trufflehog.git.ndjson"],
)
def test_no_planted_value_leaves_recorded_reports(name: str) -> None:
    found = ingest(load_report(name))
    wire = b"".join(message.SerializeToString() for message in found.messages)
    sealed = 0
    for value in planted_values():
        for form in FORMS[:5]:
            assert form(value).encode() not in wire
        for line in value.splitlines():
            public = len(line) < 12 or line.startswith("-----")
            assert public or line.encode() not in wire
        sealed += any(value in evidence(finding).value for finding in found.findings)
    assert sealed >= 8


def test_short_values_are_masked_only_where_they_are_the_field() -> None:
    finding = protect(secret("abc", path="abc/abc.py", rule_name="abc"))
    assert finding.code.location.path == "abc/abc.py"
    assert finding.rule_name == "[REDACTED]"


def test_neighbours_tokens_in_clear_fields_are_redacted() -> None:
    token = "ghp_" + "a1B2" * 9
    records = [gitleaks(n) for n in range(20)]
    records[7]["File"] = f"backup/{token}.txt"
    findings = ingest(dump(records)).findings
    assert findings[7].code.location.path == "backup/[REDACTED].txt"
    assert "[REDACTED]" not in str(findings[:7]) + str(findings[8:])


def test_free_text_is_sealed_only() -> None:
    found = ingest(dump([gitleaks(Message="a neighbour's text", Description="free words")]))
    assert "neighbour" not in " ".join(clear_strings(found.findings[0]))
    assert evidence(found.findings[0]).message == "free words\na neighbour's text"


def test_evidence_is_bound_to_its_report() -> None:
    finding = protect(secret("made-up value"), uuid.UUID(int=8))
    with pytest.raises(Exception, match="does not open"):
        evidence(finding)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("AKIA" + "Q" * 16, "AKIA… (20 characters)"),
        ("github_pat_" + "b" * 40, "github_pat_… (51 characters)"),
        ("AKIA" + "Q" * 7, "… (11 characters)"),
        ("hunter2", "… (7 characters)"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----\nMIICabcd\n", "-----BEGIN RSA PRIVATE KEY-----… (41 characters)"),
        ("-----BEGIN my password", "… (22 characters)"),
    ],
)  # fmt: skip
def test_previews_show_public_prefixes_only(value: str, shown: str) -> None:
    assert preview(value, pb.VALUE_STATE_PRESENT) == shown


@given(st.text(min_size=1, max_size=40))
def test_previews_of_other_values_show_nothing(value: str) -> None:
    shown = preview("§" + value, pb.VALUE_STATE_PRESENT)
    assert shown == f"… ({len(value) + 1} characters)"


@pytest.mark.parametrize("value", ["REDACTED", "AKIA...", "ab...", "********"])
def test_redacted_values_have_no_identity(value: str) -> None:
    [finding] = ingest(dump([gitleaks(Secret=value)])).findings
    assert state_of(value) == finding.value_state == pb.VALUE_STATE_REDACTED
    assert finding.value_fingerprint == finding.place_fingerprint == b""
    assert len(finding.occurrence_fingerprint) == 32
    assert finding.value_preview == "(redacted by the scanner)"
    assert evidence(finding).value == ""


def test_absent_values_have_no_identity() -> None:
    found = ingest(dump([gitleaks(Secret="", Match=""), gitleaks(1, Secret="", Match="")])).findings
    assert {f.value_state for f in found} == {pb.VALUE_STATE_ABSENT}
    assert {f.value_fingerprint for f in found} == {b""}
    assert found[0].occurrence_fingerprint != found[1].occurrence_fingerprint


def test_what_cannot_be_seen_is_shown_as_escapes() -> None:
    finding = protect(secret("made-up value", path="a\u202etxt\x1b[1m\ud800.py", rule_name="n\x00"))
    assert finding.code.location.path == "a\\u202etxt\\u001b[1m\\ud800.py"
    assert finding.rule_name == "n\\u0000"


@given(st.text(st.characters(), max_size=40))
def test_visible_text_holds_no_controls(text: str) -> None:
    shown = visible(text)
    assert not any(
        ord(c) < 32 or 0x202A <= ord(c) <= 0x202E or 0xD800 <= ord(c) < 0xE000 for c in shown
    )
    shown.encode()


def test_lengths_are_capped() -> None:
    record = secret(
        "made-up " + "v" * 100_000,
        path="p" * 5000,
        native_id="i" * 300,
        metadata={str(n): "m" * 300 for n in range(50)},
        message="ü" * 20_000,
        match="m" * 100_000,
    )
    finding = protect(record)
    assert len(finding.code.location.path) == 4096
    assert len(finding.native_id) == 256
    assert len(finding.raw_metadata) == 32
    assert max(map(len, finding.raw_metadata.values())) == 256
    opened = evidence(finding)
    assert (len(opened.value), len(opened.match)) == (65536, 65536)
    assert len(opened.message.encode()) == 16384


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-10-19 02:56:37 +0000", 1697684197),
        ("2022-06-16 10:17:40 -0700 -0700", 1655399860),
        ("2021-10-14T17:05:15Z", 1634231115),
        ("2026-11-01", 1793491200),
        ("10-19-2003", None),
        ("0001-01-01T00:00:00Z", None),
        ("2023-13-45 99:00:00 +0000", None),
        ("", None),
    ],
)
def test_times(text: str, seconds: int | None) -> None:
    assert timestamp(text) == seconds


def test_the_value_in_the_path_is_masked_but_fingerprinted_as_it_was() -> None:
    value = "made-up-value-in-a-path"
    one = protect(secret(value, path=f"keys/{value}/a"))
    two = protect(secret(value, path=f"keys/{value.upper()}/a"))
    assert one.code.location.path == "keys/[REDACTED]/a"
    assert one.place_fingerprint != two.place_fingerprint
    assert one.value_fingerprint == two.value_fingerprint


def test_a_plain_word_stays_in_names_of_files_and_rules() -> None:
    """`src/admin/settings.py` with the password "admin": the path is needed, and tells nothing."""
    record = gitleaks(1, Secret="admin", File="src/admin/settings.py", RuleID="generic-admin-key")
    [kept] = ingest(dump([record])).findings
    assert kept.code.location.path == "src/admin/settings.py"
    assert kept.rule_id == "generic-admin-key"
    [whole] = ingest(dump([gitleaks(1, Secret="admin", File="admin")])).findings
    assert whole.code.location.path == "[REDACTED]"
    [drawn] = ingest(dump([gitleaks(1, Secret="adm1n-x", File="src/adm1n-x/a.py")])).findings
    assert "adm1n-x" not in drawn.code.location.path


@pytest.mark.parametrize("spell", FORMS[:5])
def test_a_value_as_it_was_written_is_masked_too(spell: Any) -> None:
    written = '"' + "\\n".join(("-----BEGIN EC PRIVATE " + "KEY-----", "Zm9v" * 16, "YmFy" * 4))
    path = only([gitleaks(Secret=written, File=f"src/{spell(written)}/a.py")]).code.location.path
    assert "[REDACTED]" in path
    assert spell(written)[60:80] not in path


def test_parts_that_say_it_all_are_masked_where_they_stand_alone() -> None:
    url = "amqp://shop:made-up%2Fvalue@queue.example.test/jobs"
    for part in ("made-up%2Fvalue", "made-up/value"):
        found = only([gitleaks(Secret=url, Tags=[f"a {part} b"])])
        assert found.raw_metadata["Tags"] == "a [REDACTED] b"
    lines = "user = nobody\npassword = made-up-00000001\nhousekeeping"
    found = only([gitleaks(Secret=lines, RuleID="x made-up-00000001 housekeeping")])
    assert found.rule_id == "x [REDACTED] housekeeping"


def test_a_token_is_masked_before_a_long_text_is_cut() -> None:
    token = Maker(5).checksummed("gh" + "p_")
    found = only([gitleaks(Author="", Tags=["x" * 230 + " " + token])])
    assert token[:16] not in found.raw_metadata["Tags"]
