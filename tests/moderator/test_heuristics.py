"""What the heuristics decide, category by category."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderator.stage import Subject
from moderator.stages.heuristics import STAGE
from tests.moderator.subjects import HEADER, checksummed, drawn, finding, judge, rules_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import RISK_HIGH, RISK_LOW, RISK_MEDIUM, Risk

HEX = "0123456789abcdef"
KEY_ID = "AK" + "IA" + drawn(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def jwt(claims: dict[str, object], alg: str = "HS256", signature: str = drawn(43)) -> str:
    def part(value: dict[str, object]) -> str:
        text = json.dumps(value, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    return f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims)}.{signature}"


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("aws.access_key_id", KEY_ID),
        ("github.personal_token", checksummed("gh" + "p_")),
        ("npm.token", checksummed("np" + "m_")),
        ("gitlab.personal_token", "gl" + "pat-" + drawn(20)),
        ("slack.bot_token", "xo" + "xb-" + drawn(12, "123456789") + "-" + drawn(12, "123456789") + "-" + drawn(24)),
        ("stripe.live_key", "sk" + "_live_" + drawn(24)),
        ("sendgrid.key", "S" + "G." + drawn(22) + "." + drawn(43)),
        ("openai.key", "s" + "k-" + drawn(20) + "T3Blbk" + "FJ" + drawn(20)),
        ("anthropic.key", "sk" + "-ant-api03-" + drawn(93)),
        ("huggingface.token", "h" + "f_" + drawn(34, "abcdefghijkLMNOPqrstuvwxyz")),
        ("azure.storage_key", drawn(76) + "+A" + "St" + drawn(5) + "A=="),
        ("digitalocean.token", "do" + "p_v1_" + drawn(64, HEX)),
        ("databricks.token", "da" + "pi" + drawn(32, HEX)),
        ("telegram.bot_token", drawn(9, "123456789") + ":A" + "A" + drawn(33)),
        ("age.secret_key", "AGE-SECRET" + "-KEY-1" + drawn(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")),
    ],
)  # fmt: skip
def test_a_providers_token_in_production_is_high(rule: str, value: str) -> None:
    opinion = judge(value, path="deploy/production/app.env", rule="specific-rule")
    assert "provider." + rule in rules_of(opinion)
    assert opinion.risk == RISK_HIGH
    assert opinion.confidence is not None
    assert opinion.confidence > 0.8
    assert value not in opinion.reason


@pytest.mark.parametrize("prefix", ["gh" + "p_", "gh" + "o_", "np" + "m_"])
def test_a_wrong_checksum_is_not_real(prefix: str) -> None:
    good, bad = judge(checksummed(prefix)), judge(checksummed(prefix, good=False))
    assert good.confidence is not None
    assert bad.confidence is not None
    assert good.confidence > 0.9
    assert bad.confidence < 0.5
    assert "check.failed" in rules_of(bad)


def test_a_token_is_checked_inside_longer_text() -> None:
    opinion = judge("GITHUB_TOKEN: " + checksummed("gh" + "p_") + "; echo done")
    assert "check.passed" in rules_of(opinion)


def test_a_deeply_nested_token_is_no_crash() -> None:
    part = base64.urlsafe_b64encode(b'{"a":' + b"[" * 1500).decode().rstrip("=")
    assert judge(f"eyJhIjoxfQ.{part}.x", rule="jwt").confidence is not None


@pytest.mark.parametrize(
    "value",
    [
        "your-api-key-here", "<your-key>", "${DB_PASSWORD}", "{{ .Values.password }}", "changeme",
        "CHANGE_ME", "xxxxxxxxxxxxxxxx", "****************", "example-password", "process.env.TOKEN",
        "os.environ['KEY']", "$(cat /run/secrets/x)", "#{password}", "%s", "REDACTED", "TODO",
        "secrets.DEPLOY_KEY", "vault:secret/data/x", "ENC(abcdefgh==)", "1234567890abcdef",
        "getPassword()", "config.database.password", "accessTokenProvider", "user_password_field",
        "Please enter your password", "https://example.com/path", "/etc/app/secret.key", "v1.2.3",
        "sha512-" + drawn(40), "null", "0000000000000000", "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "AK" + "IAIOSFODNN7" + "EXAMPLE",
    ],
)  # fmt: skip
def test_what_is_no_credential_is_low(value: str) -> None:
    opinion = judge(value, name="password")
    assert opinion.risk == RISK_LOW, opinion.reason
    assert opinion.confidence is not None
    assert opinion.confidence < 0.3


def test_a_published_value_is_known_by_its_digest() -> None:
    opinion = judge("2Yotn" + "FZFEjr1zCsicMWpAA", name="access_token")
    assert "sample.rfc6749_token" in rules_of(opinion)
    assert opinion.reason.startswith("Published example")


def test_place_decides_between_equal_values() -> None:
    value = drawn(24)
    confidences = [
        judge(value, name="api_key", path=path).confidence or 0.0
        for path in ("config/prod.yml", "src/app.py", "tests/fixtures/app_test.py", "yarn.lock")
    ]
    assert confidences == sorted(confidences, reverse=True)
    assert len(set(confidences)) == 4


def test_a_weak_password_counts_in_production_only() -> None:
    value = "123456"
    production = judge(
        value, name="password", line=f"password: {value}", path="application-prod.yml"
    )
    test = judge(value, name="password", line=f"password: {value}", path="tests/user_test.py")
    assert production.risk != RISK_LOW
    assert test.risk == RISK_LOW


def test_tokens() -> None:
    live = judge(jwt({"sub": "u-81723", "exp": 32503680000}), rule="jwt")
    expired = judge(jwt({"sub": "u-81723", "exp": 1}), rule="jwt")
    sample = judge(jwt({"sub": "1234567890", "name": "John Doe"}), rule="jwt")
    unsigned = judge(jwt({"sub": "u-81723"}, "none", ""), rule="jwt")
    assert live.confidence is not None
    for other in (expired, sample, unsigned):
        assert other.confidence is not None
        assert other.confidence < live.confidence
    assert "check.jwt_expired" in rules_of(expired)
    assert sample.risk == RISK_LOW


def test_private_keys() -> None:
    def pem(body: str) -> str:
        return "-----BEGIN RSA PRIV" + f"ATE KEY-----\n{body}\n-----END RSA PRIV" + "ATE KEY-----"

    real = judge(pem(drawn(800)), rule="private-key", path="deploy/server.key")
    elided = judge(pem("MIIE..."), rule="private-key", path="deploy/server.key")
    test = judge(pem(drawn(800)), rule="private-key", path="tests/data/server.key")
    assert real.risk == RISK_HIGH
    assert elided.risk == RISK_LOW
    assert test.risk in (RISK_LOW, RISK_MEDIUM)


def test_addresses_with_passwords() -> None:
    def url(password: str, host: str) -> str:
        return f"postgres://svc:{password}@{host}/orders"

    real = judge(url(drawn(20), "db1.orders-service.io"), path="config/prod.yml", rule="uri")
    template = judge(url("${PW}", "db1.orders-service.io"), path="config/prod.yml", rule="uri")
    local = judge(url("postgres", "localhost:5432"), path="docker-compose.yml", rule="uri")
    assert real.risk == RISK_HIGH
    assert template.risk == RISK_LOW
    assert local.risk == RISK_LOW


def test_dead_and_triaged_are_low_and_say_so() -> None:
    dead = judge(KEY_ID, path="config/prod.yml", rule="aws", validity=pb.VALIDITY_DEAD)
    revoked = judge(KEY_ID, path="config/prod.yml", rule="aws", triage=pb.TRIAGE_REVOKED)
    wrong = judge(KEY_ID, path="config/prod.yml", rule="aws", triage=pb.TRIAGE_FALSE_POSITIVE)
    assert {dead.risk, revoked.risk, wrong.risk} == {RISK_LOW}
    assert "provider refused" in dead.reason
    assert "revoked" in revoked.reason


@pytest.mark.parametrize("state", [pb.VALUE_STATE_REDACTED, pb.VALUE_STATE_ABSENT])
@pytest.mark.parametrize("evidence", [None, PlainEvidence(match="password: ***")])
def test_a_redacted_value_is_judged_by_the_rest(
    state: pb.ValueState.ValueType, evidence: PlainEvidence | None
) -> None:
    subject = Subject(finding("config/prod.yml", "aws-secret", value_state=state), evidence, HEADER)
    (opinion,) = STAGE.judge([subject])
    assert opinion is not None
    assert "value.redacted" in rules_of(opinion)


@pytest.mark.parametrize(
    ("severity", "risk"),
    [
        (pb.SEVERITY_CRITICAL, RISK_HIGH), (pb.SEVERITY_HIGH, RISK_HIGH),
        (pb.SEVERITY_MEDIUM, RISK_MEDIUM), (pb.SEVERITY_LOW, RISK_LOW),
        (pb.SEVERITY_INFO, RISK_LOW), (pb.SEVERITY_UNSPECIFIED, RISK_MEDIUM),
    ],
)  # fmt: skip
def test_other_kinds_go_by_the_scanners_severity(
    severity: pb.Severity.ValueType, risk: Risk.ValueType
) -> None:
    other = finding(kind=pb.FINDING_KIND_VULNERABILITY, severity=severity)
    (opinion,) = STAGE.judge([Subject(other, None, HEADER)])
    assert opinion is not None
    assert opinion.risk == risk
    assert opinion.confidence is None
    assert opinion.reason.endswith("Winnow has no rule of its own for vulnerabilities yet.")


ANY_FINDING = st.builds(
    finding,
    path=st.text(max_size=60),
    rule=st.text(max_size=20),
    validity=st.sampled_from(sorted(pb.Validity.values())),
    triage=st.sampled_from(sorted(pb.Triage.values())),
    value_state=st.sampled_from(sorted(pb.ValueState.values())),
)
TOKENISH = st.sampled_from(
    [
        "eyJ",
        "-----BEGIN RSA PRIVATE" + " KEY-----",
        "://",
        ":",
        "@",
        ".",
        "basic ",
        "AKIA",
        "=",
        "\n",
    ]
)
ANY_TEXT = st.lists(st.one_of(st.text(max_size=30), TOKENISH), max_size=6).map("".join)
ANY_EVIDENCE = st.none() | st.builds(
    PlainEvidence,
    value=ANY_TEXT,
    match=ANY_TEXT,
    context=ANY_TEXT,
    variable=st.text(max_size=20),
    decoder=st.sampled_from(["", "PLAIN", "BASE64"]),
)


@settings(max_examples=300)
@given(one=ANY_FINDING, evidence=ANY_EVIDENCE)
def test_any_input_gets_a_sound_opinion(one: pb.Finding, evidence: PlainEvidence | None) -> None:
    subject = Subject(one, evidence, HEADER)
    (opinion,) = STAGE.judge([subject])
    assert opinion is not None
    assert opinion.confidence is not None
    assert 0.0 <= opinion.confidence <= 1.0
    assert 0 < len(opinion.reason) <= 512
    assert 0 < len(opinion.observations) <= 6
    assert opinion.risk in (RISK_LOW, RISK_MEDIUM, RISK_HIGH)
    if one.validity == pb.VALIDITY_LIVE:
        assert opinion.risk == RISK_HIGH
        assert opinion.confidence >= 0.99
    assert STAGE.judge([subject, subject]) == [opinion, opinion]


@given(
    value=st.text(alphabet=HEX + "QZJX", min_size=8, max_size=60),
    folder=st.text(alphabet=HEX + "QZJX", min_size=8, max_size=20),
)
def test_no_piece_of_the_input_reaches_the_words(value: str, folder: str) -> None:
    opinion = judge(value, name=f"n_{folder}", path=f"{folder}/{folder}.py")
    words = opinion.reason + " ".join(seen.detail + seen.rule for seen in opinion.observations)
    for text in (value, folder):
        assert not any(text[at : at + 6] in words for at in range(len(text) - 5))


@pytest.mark.parametrize(
    "key",
    [
        "kty: 'RSA', n: 'x', d: '{}'",
        '"kty":"EC","d":"{}"',
        "kty: 'oct',\n  k: '{}'",
        '"k": "{}", "kty": "oct", "use": "sig"',
    ],
)
def test_a_private_jwk_is_seen_in_any_notation(key: str) -> None:
    """RFC 7517 and RFC 7518, section 6: `d` is private, and so is `k` of a symmetric key."""
    assert "provider.jwk.private_key" in rules_of(judge(key.format(drawn(43))))
    assert "provider.jwk.private_key" not in rules_of(judge(key.format("short")))


def test_a_public_jwk_is_none() -> None:
    public = f"kty: 'RSA', kid: '{drawn(43)}', n: '{drawn(43, seed=2)}', e: 'AQAB'"
    assert "provider.jwk.private_key" not in rules_of(judge(public))


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("zxcv", "value.keyboard_walk"),
        ("qwerty12", "value.keyboard_walk"),
        ("sua_senha_aqui", "value.your_placeholder_abroad"),
        ("votre-mot-de-passe", "value.your_placeholder_abroad"),
        ("somepassword", "value.example_word"),
    ],
)
def test_placeholders_of_more_kinds(value: str, rule: str) -> None:
    opinion = judge(value)
    assert rule in rules_of(opinion)
    assert opinion.risk == RISK_LOW


@pytest.mark.parametrize("value", ["asdf83kd0Lq", "suasenna", drawn(20)])
def test_what_only_begins_like_them_is_none(value: str) -> None:
    seen = rules_of(judge(value))
    assert not {"value.keyboard_walk", "value.your_placeholder_abroad"} & set(seen)
