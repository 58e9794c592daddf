"""What made-up findings are drawn from: rules, values, places, commits.

About half of the values are placeholders, documented examples or digests; the
rest have a provider's shape, with valid checksums where the format has one.
Tokens are assembled from a prefix and seeded random text: this source holds
none. Everything is kept as it stands inside a JSON string, ready to be written.
"""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

_LINES = 4_000
# Coprime with PLACES, so that stepping by it visits every place once.
_STEP = 1_000_003
_POOL = 1 << 18

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ALPHABETS = {
    "alnum": string.ascii_letters + string.digits,
    "url": string.ascii_letters + string.digits + "-_",
    "base64": string.ascii_letters + string.digits + "+/",
    "base32": string.ascii_uppercase + "234567",
    "hex": "0123456789abcdef",
    "digits": string.digits,
}

# gitleaks rule | TruffleHog detector and number | variable | prefix | shape | length | weight
_RULES = """
generic-api-key|CustomRegex 904|api_key||alnum|32|9
generic-api-key|CustomRegex 904|password||alnum|16|9
generic-api-key|CustomRegex 904|client_secret||url|40|6
generic-api-key|CustomRegex 904|auth_token||hex|40|6
generic-api-key|CustomRegex 904|session_secret||base64|44|4
kubernetes-secret-yaml|CustomRegex 904|database-password||base64|32|3
hashicorp-tf-password|CustomRegex 904|administrator_login_password||alnum|20|2
curl-auth-header|CustomRegex 904|Authorization: Bearer||url|48|2
aws-access-token|AWS 2|aws_access_key_id|AKIA|base32|16|5
github-pat|Github 8|GITHUB_TOKEN|ghp_|checksum|30|4
github-oauth|Github 8|GITHUB_OAUTH|gho_|checksum|30|1
github-app-token|Github 8|GITHUB_APP_TOKEN|ghs_|checksum|30|1
github-fine-grained-pat|Github 8|GH_PAT|github_pat_|alnum|82|2
gitlab-pat|Gitlab 9|GITLAB_TOKEN|glpat-|url|20|2
gitlab-deploy-token|Gitlab 9|DEPLOY_TOKEN|gldt-|url|20|1
slack-bot-token|Slack 13|SLACK_BOT_TOKEN|xoxb-|slack|24|2
stripe-access-token|Stripe 16|STRIPE_API_KEY|sk_live_|alnum|24|3
gcp-api-key|GoogleApiKey 71|GOOGLE_MAPS_KEY|AIza|url|35|3
sendgrid-api-token|SendGrid 12|SENDGRID_API_KEY|SG.|url|66|2
npm-access-token|NpmToken 49|NPM_TOKEN|npm_|checksum|30|1
pypi-upload-token|CustomRegex 904|TWINE_PASSWORD|pypi-AgEIcHlwaS5vcmc|url|120|1
twilio-api-key|Twilio 26|TWILIO_API_KEY|SK|hex|32|1
shopify-access-token|Shopify 902|SHOPIFY_TOKEN|shpat_|hex|32|1
digitalocean-pat|DigitalOceanV2 897|DIGITALOCEAN_TOKEN|dop_v1_|hex|64|1
openai-api-key|OpenAI 201|OPENAI_API_KEY|sk-proj-|openai|74|2
anthropic-api-key|CustomRegex 904|ANTHROPIC_API_KEY|sk-ant-api03-|url|93|1
jwt|CustomRegex 904|service_token||jwt|43|4
private-key|PrivateKey 15|||pem|12|3
databricks-api-token|DatabricksToken 62|DATABRICKS_TOKEN|dapi|hex|32|1
doppler-api-token|Doppler 196|DOPPLER_TOKEN|dp.pt.|alnum|43|1
grafana-service-account-token|Grafana 830|GRAFANA_TOKEN|glsa_|alnum|41|1
huggingface-access-token|CustomRegex 904|HF_TOKEN|hf_|alnum|34|1
linear-api-key|LinearAPI 177|LINEAR_API_KEY|lin_api_|alnum|40|1
mailgun-private-api-token|Mailgun 34|MAILGUN_API_KEY|key-|hex|32|1
new-relic-user-api-key|NewRelicPersonalApiKey 50|NEW_RELIC_KEY|NRAK-|base32|27|1
notion-api-token|Notion 134|NOTION_TOKEN|ntn_|alnum|46|1
postman-api-token|Postman 118|POSTMAN_API_KEY|PMAK-|hex|58|1
square-access-token|Square 14|SQUARE_ACCESS_TOKEN|EAAA|url|60|1
telegram-bot-api-token|TelegramBotToken 91|TELEGRAM_TOKEN||telegram|34|1
vault-service-token|CustomRegex 904|VAULT_TOKEN|hvs.|url|90|1
planetscale-password|PlanetScale 195|PLANETSCALE_PASSWORD|pscale_pw_|url|43|1
sonar-api-token|SonarCloud 767|SONAR_TOKEN|squ_|hex|40|1
atlassian-api-token|Atlassian 190|JIRA_API_TOKEN|ATATT3|url|186|1
"""

_PLACEHOLDERS = """
changeme
change-me-please
your-api-key-here
YOUR_SECRET_KEY
${API_KEY}
${env:SERVICE_TOKEN}
{{ vault_password }}
{{ .Values.secret }}
xxxxxxxxxxxxxxxx
****************
insert-token-here
process.env.API_SECRET
os.environ['TOKEN']
example-password
dummy_secret_value
test-token-1234
0123456789abcdef0123456789abcdef
abcdefghijklmnopqrstuvwxyz
REPLACE_WITH_REAL_KEY
not-a-secret
placeholder
secretsmanager:billing/api
getPasswordFromVault()
foobar12345678
<insert value>
"""

_PLACES = {
    "config/production deploy/prod k8s/prod/templates infra/live terraform/prod": (
        "app.yml secrets.yaml values.yaml main.tf terraform.tfvars .env.production settings.json"
        " database.yml docker-compose.yml application.properties"
    ),
    "src/main/java/com/acme/billing src/api src/auth services/orders services/payments pkg/client"
    " internal/sync cmd/server lib/adapters app/models web/src/lib": (
        "Client.java config.py handler.go index.ts session.js settings.py connection.rb auth.go"
        " factory.py service.ts"
    ),
    ". scripts ci tools": ".env .npmrc release.sh deploy.sh .gitlab-ci.yml Jenkinsfile settings.toml",
    "tests/unit tests/integration spec/fixtures test/resources src/__tests__ testdata e2e/mocks": (
        "test_client.py fixtures.json client_test.go config.test.ts cassette.yml keys.pem conftest.py"
    ),
    "docs docs/guides examples/quickstart samples/node website/content": (
        "README.md getting-started.md api.md config.example.yml tutorial.ipynb authentication.md"
    ),
    "web third_party/sdk vendor/github.com/acme/sdk node_modules/left-pad static/js": (
        "package-lock.json yarn.lock go.sum bundle.min.js checksums.txt poetry.lock"
    ),
}
_MODULES = ("", "core/", "eu-west/", "legacy/")

_WORDS = """
add remove update move rename bump fix revert client server cache index retry timeout config
session payment invoice webhook migration schema report export import queue worker dashboard
locale upload the a for with after before when across behind without because
"""


class Rule(NamedTuple):
    """One detection rule: names in both scanners, and how its values are made."""

    rule_id: bytes
    description: bytes
    detector: bytes
    number: int
    before: bytes
    after: bytes
    real: Callable[[float], bytes]
    fakes: list[bytes]


class Commit(NamedTuple):
    """One commit, its parts as they stand in JSON."""

    id: bytes
    author: bytes
    email: bytes
    date: bytes
    message: bytes


class Row(NamedTuple):
    """What one finding is made of, whatever the format."""

    rule: Rule
    value: bytes
    path: bytes
    line: int
    end_line: int
    column: int
    commit: Commit
    entropy: float
    # Of twenty: 0 live, 1 and 2 the check failed, the rest unverified; real values below 10.
    twentieth: int


def _json(text: str) -> bytes:
    """The text as gitleaks (Go's encoder) writes it between the quotes of a JSON string."""
    encoded = json.dumps(text, ensure_ascii=False)[1:-1]
    for sign in "<>&":
        encoded = encoded.replace(sign, f"\\u{ord(sign):04x}")
    return encoded.encode()


def _paths() -> list[bytes]:
    return [
        f"{folder}/{module}{name}".removeprefix("./").encode()
        for folders, names in _PLACES.items()
        for folder in folders.split()
        for module in _MODULES
        for name in names.split()
    ]


_PATHS = _paths()
# Path and line pairs: so many findings differ from one another in place alone.
PLACES = len(_PATHS) * _LINES


def _checksum(body: bytes) -> bytes:
    """CRC-32 as six base62 digits, as in GitHub's and npm's tokens."""
    number, digits = zlib.crc32(body), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits.encode()


class Corpus:
    """Everything that findings are drawn from; one seed, one corpus."""

    def __init__(self, seed: int) -> None:
        self._random = rng = random.Random(seed)  # noqa: S311 -- the same for the same seed
        self._pools = {
            name: "".join(rng.choices(letters, k=_POOL + 256)).encode()
            for name, letters in _ALPHABETS.items()
        }
        weighted = [
            (self._rule(line), int(line.rsplit("|", 1)[1])) for line in _RULES.split("\n") if line
        ]
        self.rules = [rule for rule, weight in weighted for _ in range(weight)]
        self.distinct_rules = list({rule.rule_id: rule for rule, _ in weighted}.values())
        self.commits = [self._commit() for _ in range(2_000)]

    def _shape(self, shape: str, prefix: bytes, length: int) -> Callable[[float], bytes]:
        pools = self._pools
        pool = pools.get(shape, pools["alnum"])

        def piece(at: float) -> bytes:
            start = int(at * _POOL)
            return prefix + pool[start : start + length]

        if shape == "checksum":
            return lambda at: (token := piece(at)) + _checksum(token[len(prefix) :])
        if shape == "slack":
            digits = pools["digits"]
            return lambda at: b"-".join(
                (
                    prefix + digits[(start := int(at * _POOL)) : start + 12],
                    digits[start + 12 : start + 25],
                    pool[start : start + length],
                )
            )
        if shape == "openai":
            middle = base64.b64encode(b"OpenAI")
            return lambda at: (
                piece(at) + middle + pool[(start := int(at * _POOL)) + 80 : start + 154]
            )
        if shape == "telegram":
            return lambda at: b"%d:A%b" % (1_000_000_000 + int(at * 8e9), piece(at))
        if shape == "jwt":
            head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
            claims = b'{"sub":"svc-%d","iat":1767225600,"exp":%d}'
            url = pools["url"]
            return lambda at: (
                b"%b.%b.%b"
                % (
                    head,
                    base64.urlsafe_b64encode(
                        claims % (int(at * 90_000) + 10_000, 1_700_000_000 + int(at * 4e8))
                    ).rstrip(b"="),
                    url[(start := int(at * _POOL)) : start + length],
                )
            )
        if shape == "pem":
            label, body = b"RSA PRIVATE " + b"KEY-----", pools["base64"]
            return lambda at: (
                b"-----BEGIN %bMIIEpAIBAAKCAQEA%b%b-----END %b"
                % (
                    label + b"\\n",
                    body[(start := int(at * (_POOL - 800))) : start + 48],
                    b"".join(b"\\n" + body[start + i : start + i + 64] for i in range(48, 560, 64))
                    + b"\\n",
                    label,
                )
            )
        return piece

    def _rule(self, line: str) -> Rule:
        rule_id, detector, variable, prefix, shape, length, _ = line.split("|")
        name, number = detector.split()
        title = rule_id.replace("-", " ")
        if shape == "pem":
            fakes = [
                "-----BEGIN RSA PRIVATE KEY-----\n" + mid + "\n-----END RSA PRIVATE KEY-----"
                for mid in ("...", "MIIEexample")
            ]
        elif prefix:
            fill = ("x" * 200, "EXAMPLE" * 30, "0123456789" * 20, "your_token_here_" * 12)
            size = int(length) + 6 * (shape == "checksum")
            fakes = [prefix + text[:size] for text in fill]
        else:
            fakes = [*_PLACEHOLDERS.strip().split("\n"), *(self._digest() for _ in range(6))]
        before, after = (
            (f"{variable}: ", "")
            if "-" in variable or ":" in variable
            else (f'{variable} = "', '"')
        )
        return Rule(
            rule_id.encode(),
            f"Possible {title}, which may lead to unauthorized access and data exposure.".encode(),
            name.encode(),
            int(number),
            _json(before) if variable else b"",
            _json(after) if variable else b"",
            self._shape(shape, prefix.encode(), int(length)),
            [_json(fake) for fake in fakes],
        )

    def _digest(self) -> str:
        text = "".join(self._random.choices(_ALPHABETS["hex"], k=40))
        return (
            text
            if self._random.random() < 0.5
            else "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:32]))
        )

    def _commit(self) -> Commit:
        rng, words = self._random, _WORDS.split()
        name = rng.choice(("Ada", "Bo", "Cyr", "Dee", "Eli", "Fay", "Gus", "Hal"))
        family = rng.choice(("Marlow", "Ferrant", "Okoye", "Lindqvist", "Tanaka"))
        body = [
            " ".join(rng.choices(words, k=rng.randint(6, 11))) for _ in range(rng.randint(1, 4))
        ]
        return Commit(
            "".join(rng.choices(_ALPHABETS["hex"], k=40)).encode(),
            f"{name} {family}".encode(),
            f"{name}.{family}@acme.example".lower().encode(),
            f"20{rng.randint(18, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00Z".encode(),
            _json("\n".join(body)),
        )

    def rows(self, findings: int, rng: random.Random | None = None) -> Iterator[Row]:
        """`findings` rows, each at a place of its own while there are `PLACES` of them.

        Args:
            rng: what draws them, if not the corpus itself, where it ended last.
        """
        draw = (rng or self._random).random
        rules, commits, paths = self.rules, self.commits, _PATHS
        place = int(draw() * PLACES)
        for _ in range(findings):
            place = (place + _STEP) % PLACES
            at = draw()
            rule = rules[int(draw() * len(rules))]
            kind = draw()
            if kind < 0.5:
                value, entropy = rule.real(at), 3.6 + 1.4 * at
            else:
                value, entropy = rule.fakes[int(at * len(rule.fakes))], 2.1 + 1.6 * at
            line = place % _LINES + 1
            yield Row(
                rule,
                value,
                paths[place // _LINES],
                line,
                line + value.count(b"\\n"),
                1 + int(at * 40),
                commits[int(draw() * len(commits))],
                entropy,
                int(kind * 20),
            )
