"""What the cascade once judged wrongly, scanner by scanner: each case was another verdict."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest

from moderator.reading import read
from moderator.stage import Opinion, Subject
from moderator.stages import stages
from moderator.structure import CHECKS
from tests.moderator.subjects import HEADER, checksummed, drawn, finding
from winnow.finding.v1.finding_pb2 import VALUE_STATE_REDACTED
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import RISK_HIGH, RISK_LOW, RISK_MEDIUM

FIRST, SECOND = stages()
STRONG = drawn(18)
# With signs that templates are made of, one of them percent-encoded.
SIGNED = f"{drawn(4)}$!{drawn(3, seed=2)}*%23{drawn(3, seed=3)}"
REMOTE = "db1.prod.acme-corp.com:5432/app"
SCANNERS = [
    ("gitleaks", "generic-api-key"),
    ("trufflehog", "URI"),
    ("detect-secrets", "Basic Auth Credentials"),
    ("credsweeper", "URL Credentials"),
]


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    FIRST.prepare()
    SECOND.prepare()


def risk(
    value: str, line: str, path: str, scanner: tuple[str, str] = SCANNERS[0], name: str = ""
) -> int:
    """What heuristics and model come to."""
    tool, rule = scanner
    evidence = PlainEvidence(value=value, match=line, variable=name)
    one = Subject(finding(path, rule, tool=tool), evidence, HEADER)
    (said,) = FIRST.judge([one])
    assert said is not None
    if not said.decisive:
        (said,) = SECOND.judge([one])
        assert said is not None
    return said.risk


def address(password: str, host: str = REMOTE) -> str:
    return f"postgres://svc:{password}@{host}"


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("password", [STRONG, SIGNED], ids=["letters", "signs"])
@pytest.mark.parametrize(("path", "before"), [("config/settings.yml", "url: "), ("src/app.py", 'URL = "')])  # fmt: skip
def test_a_strong_password_for_a_remote_host_is_high(
    scanner: tuple[str, str], password: str, path: str, before: str
) -> None:
    url = address(password)
    assert risk(url, before + url, path, scanner) == RISK_HIGH


@pytest.mark.parametrize("scanner", SCANNERS)
def test_it_is_not_on_the_local_machine_or_in_documents(scanner: tuple[str, str]) -> None:
    local = address(STRONG, "localhost:5432/app")
    assert risk(local, f'URL = "{local}"', "src/app.py", scanner) > RISK_HIGH
    url = address(STRONG)
    assert risk(url, f"run with {url}", "README.md", scanner) > RISK_HIGH


@pytest.mark.parametrize(
    "password",
    ["${PW}", "$PASSWORD", "{password}", "#{pw}", "%(password)s", "%s", "%PASSWORD%", "****", "xxxx"],
)  # fmt: skip
def test_templates_are_still_told_from_passwords(password: str) -> None:
    (seen, *_) = CHECKS["url_password"](address(password), 0.0)
    assert seen == "check.template_password"


@pytest.mark.parametrize(
    "password", [SIGNED, "a%40b%24c%25dEf9", "p{q;r}s$t5u*v"], ids=["signs", "encoded", "brackets"]
)
def test_signs_in_a_password_are_no_template(password: str) -> None:
    assert "check.template_password" not in CHECKS["url_password"](address(password), 0.0)


@pytest.mark.parametrize("word", ["password123", "secret", "123456"])
@pytest.mark.parametrize(
    "path",
    ["src/main/resources/application-prod.yml", "deploy/production/values.yaml", "config/prod.env"],
)
def test_a_weak_password_in_production_is_high(word: str, path: str) -> None:
    assert risk(word, f"password: {word}", path) == RISK_HIGH


def test_a_placeholder_in_production_is_none() -> None:
    path = "src/main/resources/application-prod.yml"
    assert risk("changeme", "password: changeme", path) == RISK_LOW


@pytest.mark.parametrize("path", ["src/data/server.key", "lib/keys/dev.key", "docker/nginx.key"])
def test_a_whole_private_key_is_never_low_outside_of_tests(path: str) -> None:
    label = "PRIVATE" + " KEY-----"
    lines = [drawn(64, seed=seed) for seed in range(12)]
    key = "\n".join(["-----BEGIN " + label, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", *lines])
    key += "\n-----END " + label
    scanner = ("credsweeper", "PEM Private Key")
    assert risk(key, key, path, scanner) <= RISK_MEDIUM
    assert risk(key, key, f"tests/{path}", scanner) == RISK_LOW


@pytest.mark.parametrize("scanner", [SCANNERS[0], ("kingfisher", "Django Secret Key")])
def test_a_key_for_development_is_high_in_production_only(scanner: tuple[str, str]) -> None:
    key = "django-insecure-" + drawn(50, "abcdefghijklmnopqrstuvwxyz0123456789(-_=+)*&^%$#@!")
    line = f'SECRET_KEY = "{key}"'
    for path in ("mysite/settings.py", "project/settings/base.py"):
        assert risk(key, line, path, scanner, "SECRET_KEY") == RISK_MEDIUM
    assert risk(key, line, "backend/settings/production.py", scanner, "SECRET_KEY") == RISK_HIGH


@pytest.mark.parametrize("word", ["jeans", "tigger", "harbour"])
def test_a_plain_word_for_a_password_is_seen_in_a_call(word: str) -> None:
    line = f"define('DB_PASSWORD', '{word}');"
    assert risk(word, line, "wp-config.php", ("detect-secrets", "Secret Keyword")) < RISK_LOW


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("define('DB_PASSWORD', 'jeans');", "DB_PASSWORD"),
        ("DB_PASSWORD', 'jeans'", "DB_PASSWORD"),
        ('props.setProperty("db.pass", "jeans")', "db.pass"),
        ('["first", "second", "jeans"]', ""),
        ("connect(user, 'jeans')", ""),
    ],
)
def test_the_first_argument_names_the_second(line: str, name: str) -> None:
    assert read(finding(), PlainEvidence(value="jeans", match=line)).name == name


def verdict(value: str, rule: str, path: str, **fields: object) -> Opinion:
    """What heuristics and model say of one finding of gitleaks."""
    evidence = PlainEvidence(value=value, match=value) if value else None
    one = Subject(finding(path, rule, **fields), evidence, HEADER)
    (said,) = FIRST.judge([one])
    assert said is not None
    if not said.decisive:
        (said,) = SECOND.judge([one])
    assert said is not None
    return said


@pytest.mark.parametrize(
    ("rule", "title"),
    [
        ("github-pat", "Possible GitHub personal access token"),
        ("betterleaks.slack-bot-token", "Possible Slack token"),
        ("AWS Access Key", "Possible AWS access key"),
        ("Private Key", "Possible private key"),
        ("twilio-api-key", "Possible Twilio credential"),
    ],
)
def test_a_redacted_value_is_named_by_the_rule_that_found_it(rule: str, title: str) -> None:
    said = verdict("", rule, "deploy/production.yml", value_state=VALUE_STATE_REDACTED)
    assert said.reason.startswith(title)
    assert said.risk == RISK_HIGH


def test_what_a_catch_all_rule_found_redacted_stays_a_possible_credential() -> None:
    said = verdict("", "generic-api-key", "src/app.py", value_state=VALUE_STATE_REDACTED)
    assert said.reason.startswith("Possible credential")


def test_a_value_that_contradicts_its_rule_is_not_named_by_it() -> None:
    said = verdict("correct horse battery", "github-pat", "src/app.py")
    assert "GitHub" not in said.reason


def test_a_wrong_checksum_is_never_taken_for_sure() -> None:
    wrong = verdict(checksummed("ghp_", good=False), "github-pat", "src/client.py")
    right = verdict(checksummed("ghp_"), "github-pat", "src/client.py")
    assert wrong.confidence is not None
    assert wrong.confidence <= 0.6
    assert wrong.risk != RISK_HIGH
    assert right.risk == RISK_HIGH
    assert "Revoke it" not in wrong.reason


def test_the_token_of_the_documentation_is_nobodys() -> None:
    claims = ('{"alg":"HS256","typ":"JWT"}', '{"sub":"1234567890","name":"John Doe","iat":1}')
    parts = [urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in claims]
    said = verdict(".".join([*parts, drawn(43)]), "jwt", "src/client.py")
    assert said.risk == RISK_LOW
    assert said.confidence is not None
    assert said.confidence < 0.35


@pytest.mark.parametrize("named", [True, False], ids=["with its key", "alone"])
def test_a_kubernetes_secret_is_read_as_what_it_holds(named: bool) -> None:
    encoded = b64encode(STRONG.encode()).decode()
    value = f"db-password: {encoded}" if named else encoded
    line = "kind: Secret" if named else f"  db-password: {encoded} # of the database"
    variable = "" if named else "db-password"
    evidence = PlainEvidence(value=value, match=line, variable=variable)
    reading = read(finding("deploy/db.yaml", "kubernetes-secret-yaml"), evidence)
    assert (reading.value, reading.name) == (STRONG, "db-password")
    if not named:
        assert reading.line == f"  db-password: {STRONG} # of the database"
        assert reading.line[reading.start :].startswith(STRONG)


def test_what_is_no_text_stays_encoded() -> None:
    encoded = b64encode(bytes(range(200, 230))).decode()
    evidence = PlainEvidence(value=encoded, match=f"key: {encoded}")
    assert read(finding("a.yaml", "kubernetes-secret-yaml"), evidence).value == encoded
    text = b64encode(b"hello, world").decode()
    evidence = PlainEvidence(value=text, match=f"key: {text}")
    assert read(finding("a.yaml", "generic-api-key"), evidence).value == text
