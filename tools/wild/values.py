"""Made-up values: credentials of many kinds, passwords as people make them, and look-alikes.

Every value is drawn from a seeded stream and opens nothing. Provider prefixes
are joined at run time, so that this source holds no provider-shaped literal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable
from typing import NamedTuple

from tests.fixtures.tokens import ALNUM, HEX, UPPER_DIGITS, URL_SAFE, Maker

DIGITS = string.digits
LOWER_DIGITS = string.ascii_lowercase + DIGITS
UPPER_HEX = "0123456789ABCDEF"
BASE64 = ALNUM + "+/"


class Kind(NamedTuple):
    """One kind of value and the names that people give to what holds it."""

    name: str
    origin: str
    names: tuple[str, ...]
    make: Callable[[Maker], str]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _dashed(text: str) -> str:
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:32]))


def uuid(make: Maker) -> str:
    """A random UUID, version 4."""
    digits = make.text(32, HEX)
    return _dashed(digits[:12] + "4" + digits[13:16] + make.text(1, "89ab") + digits[17:])


def _session_jwt(make: Maker) -> str:
    number = int(make.text(6, "123456789"))
    issued = 1_640_000_000 + number * 100
    claims: dict[str, object] = {"sub": make.text(3, DIGITS + "abcdef"), "iat": issued}
    extra = {
        "exp": issued + 86_400 * (1 + number % 900),
        "role": ("admin", "service", "user", "editor")[number % 4],
        "email": make.text(6, string.ascii_lowercase) + "@mail." + make.text(5, LOWER_DIGITS),
        "iss": "https://id." + make.text(7, string.ascii_lowercase) + ".io",
        "tenant": make.text(8, HEX),
    }
    claims.update(list(extra.items())[: number % 6])
    return make.jwt(claims)


def _telegram(make: Maker) -> str:
    return f"{make.text(1, '123456789')}{make.text(9, DIGITS)}:A{'A'}{make.text(33, URL_SAFE)}"


def _discord(make: Maker) -> str:
    head = base64.b64encode(make.text(18, DIGITS).encode()).decode().rstrip("=")
    return f"{head}.{make.text(6, URL_SAFE)}.{make.text(38, URL_SAFE)}"


def _pypi(make: Maker) -> str:
    body = b"\x02\x01\x08" + b"pypi." + b"org" + b"\x02$" + make.octets(84)
    return "py" + "pi-" + base64.urlsafe_b64encode(body).decode().rstrip("=")


def _azure_connection(make: Maker) -> str:
    account = make.text(11, LOWER_DIGITS)
    key = _b64(make.octets(64))
    return (
        f"DefaultEndpointsProtocol=https;AccountName={account};Account{'Key'}={key};"
        "EndpointSuffix=core.windows.net"
    )


def _jwk_private(make: Maker) -> str:
    return base64.urlsafe_b64encode(make.octets(32)).decode().rstrip("=")


def _prefixed(*parts: str, size: int, alphabet: str = ALNUM) -> Callable[[Maker], str]:
    return lambda make: "".join(parts) + make.text(size, alphabet)


def _random(size: int, alphabet: str = ALNUM) -> Callable[[Maker], str]:
    return lambda make: make.text(size, alphabet)


def _slack(letter: str) -> Callable[[Maker], str]:
    def make_one(make: Maker) -> str:
        ids = [make.text(1, "123456789") + make.text(11, DIGITS) for _ in range(2)]
        return f"xox{letter}-{ids[0]}-{ids[1]}-{make.text(24)}"

    return make_one


# name, names of what holds it, maker.
_PROVIDERS: tuple[tuple[str, str, Callable[[Maker], str]], ...] = (
    (
        "aws_key_id",
        "aws_access_key_id access_key aws_key s3_access_key access_key_id",
        lambda m: "AK" + "IA" + m.text(16, UPPER_DIGITS),
    ),
    (
        "aws_secret_key",
        "aws_secret_access_key secret_key aws_secret s3_secret_key secret_access_key",
        _random(40, BASE64),
    ),
    (
        "github_pat",
        "github_token gh_token git_token token github_pat",
        lambda m: m.checksummed("gh" + "p_"),
    ),
    (
        "github_oauth",
        "github_oauth_token oauth_token access_token",
        lambda m: m.checksummed("gh" + "o_"),
    ),
    (
        "github_app",
        "github_app_token installation_token token",
        lambda m: m.checksummed("gh" + "s_"),
    ),
    (
        "github_fine_grained",
        "github_token gh_pat token release_token",
        lambda m: f"github_{'pat'}_{m.text(22)}_{m.text(59)}",
    ),
    (
        "gitlab_pat",
        "gitlab_token private_token ci_token gitlab_access_token",
        _prefixed("gl", "pat-", size=20, alphabet=URL_SAFE),
    ),
    (
        "gitlab_runner",
        "runner_token registration_token runner_registration_token",
        _prefixed("gl", "rt-", size=20, alphabet=URL_SAFE),
    ),
    (
        "gitlab_trigger",
        "trigger_token pipeline_token",
        _prefixed("gl", "ptt-", size=40, alphabet=HEX),
    ),
    ("slack_bot", "slack_token slack_bot_token bot_token slack_api_token", _slack("b")),
    ("slack_user", "slack_user_token slack_token", _slack("p")),
    (
        "slack_webhook",
        "slack_webhook slack_webhook_url webhook_url notify_url",
        lambda m: (
            f"https://hooks.slack.com/{'services'}/T{m.text(8, UPPER_DIGITS)}/B{m.text(10, UPPER_DIGITS)}/{m.text(24)}"
        ),
    ),
    (
        "stripe_live",
        "stripe_secret_key stripe_key stripe_api_key payment_key",
        lambda m: "sk_" + "live_" + m.text(24 + 75 * (m.octets(1)[0] % 2)),
    ),
    ("stripe_restricted", "stripe_restricted_key stripe_key", _prefixed("rk_", "live_", size=24)),
    (
        "stripe_webhook",
        "stripe_webhook_secret webhook_secret endpoint_secret",
        _prefixed("wh", "sec_", size=32),
    ),
    (
        "google_api_key",
        "google_api_key maps_api_key api_key firebase_api_key gmaps_key current_key",
        _prefixed("AI", "za", "Sy", size=33, alphabet=URL_SAFE),
    ),
    (
        "google_client_secret",
        "google_client_secret client_secret oauth_client_secret",
        _prefixed("GO", "CSPX-", size=28, alphabet=URL_SAFE),
    ),
    (
        "fcm_server_key",
        "fcm_server_key server_key firebase_server_key",
        lambda m: f"AA{'AA'}{m.text(7, URL_SAFE)}:APA91b{m.text(134, URL_SAFE)}",
    ),
    (
        "sendgrid",
        "sendgrid_api_key mail_api_key smtp_password sendgrid_key",
        lambda m: f"S{'G'}.{m.text(22, URL_SAFE)}.{m.text(43, URL_SAFE)}",
    ),
    (
        "mailgun",
        "mailgun_api_key mailgun_key mail_key",
        _prefixed("ke", "y-", size=32, alphabet=HEX),
    ),
    (
        "mailchimp",
        "mailchimp_api_key mailchimp_key newsletter_key",
        lambda m: f"{m.text(32, HEX)}-us{m.text(1, '123456789')}",
    ),
    (
        "twilio_key",
        "twilio_api_key twilio_key api_key_sid",
        _prefixed("S", "K", size=32, alphabet=HEX),
    ),
    ("twilio_auth", "twilio_auth_token auth_token sms_token", _random(32, HEX)),
    (
        "shopify",
        "shopify_access_token shopify_token admin_api_token",
        _prefixed("shp", "at_", size=32, alphabet=HEX),
    ),
    (
        "shopify_secret",
        "shopify_api_secret shared_secret",
        _prefixed("shp", "ss_", size=32, alphabet=HEX),
    ),
    (
        "digitalocean",
        "digitalocean_token do_token do_api_token",
        _prefixed("do", "p_v1_", size=64, alphabet=HEX),
    ),
    (
        "openai",
        "openai_api_key openai_key llm_api_key api_key",
        lambda m: f"sk-{'proj'}-{m.text(74)}T3Blbk{'FJ'}{m.text(74)}",
    ),
    (
        "openai_legacy",
        "openai_api_key openai_key api_key",
        lambda m: f"sk-{m.text(20)}T3Blbk{'FJ'}{m.text(20)}",
    ),
    (
        "openai_compatible",
        "api_key llm_key chat_api_key dashscope_api_key deepseek_api_key model_key",
        _prefixed("s", "k-", size=32, alphabet=HEX),
    ),
    ("openai_proxy", "api_key openai_key chat_key ai_api_key", _prefixed("s", "k-", size=48)),
    (
        "anthropic",
        "anthropic_api_key claude_api_key api_key",
        lambda m: f"sk-{'ant'}-api03-{m.text(93, URL_SAFE)}AA",
    ),
    (
        "huggingface",
        "hf_token huggingface_token hub_token",
        _prefixed("h", "f_", size=34, alphabet=string.ascii_letters),
    ),
    ("groq", "groq_api_key api_key", _prefixed("gs", "k_", size=52)),
    ("replicate", "replicate_api_token api_token", _prefixed("r", "8_", size=37)),
    ("npm", "npm_token node_auth_token _auth_token", lambda m: m.checksummed("np" + "m_")),
    ("pypi", "pypi_token twine_password password", _pypi),
    (
        "rubygems",
        "rubygems_api_key gem_host_api_key",
        _prefixed("ruby", "gems_", size=48, alphabet=HEX),
    ),
    (
        "docker_hub",
        "docker_password dockerhub_token registry_password",
        _prefixed("dckr", "_pat_", size=27, alphabet=URL_SAFE),
    ),
    ("nuget", "nuget_api_key nuget_key", _prefixed("oy", "2", size=43, alphabet=LOWER_DIGITS)),
    ("telegram", "telegram_token telegram_bot_token bot_token tg_token", _telegram),
    ("discord", "discord_token bot_token discord_bot_token", _discord),
    (
        "discord_webhook",
        "discord_webhook webhook_url",
        lambda m: (
            f"https://discord.com/api/{'webhooks'}/{m.text(18, '123456789')}/{m.text(68, URL_SAFE)}"
        ),
    ),
    (
        "facebook",
        "facebook_access_token fb_token page_access_token",
        _prefixed("EA", "A", size=160),
    ),
    ("facebook_secret", "facebook_app_secret fb_app_secret app_secret", _random(32, HEX)),
    (
        "twitter_bearer",
        "twitter_bearer_token bearer_token",
        lambda m: "A" * 22 + m.text(8, ALNUM) + "%3D" + m.text(50),
    ),
    ("linkedin", "linkedin_client_secret client_secret", _random(16)),
    (
        "dropbox",
        "dropbox_token dropbox_access_token",
        _prefixed("s", "l.", size=136, alphabet=URL_SAFE),
    ),
    ("databricks", "databricks_token dbx_token", _prefixed("da", "pi", size=32, alphabet=HEX)),
    ("datadog", "datadog_api_key dd_api_key", _random(32, HEX)),
    ("datadog_app", "datadog_app_key dd_app_key", _random(40, HEX)),
    (
        "newrelic",
        "new_relic_api_key newrelic_key",
        _prefixed("NR", "AK-", size=27, alphabet=string.ascii_uppercase + DIGITS),
    ),
    ("newrelic_license", "new_relic_license_key license_key", lambda m: m.text(36, HEX) + "NRAL"),
    (
        "sentry_token",
        "sentry_auth_token sentry_token",
        _prefixed("sn", "tryu_", size=64, alphabet=HEX),
    ),
    (
        "grafana",
        "grafana_token grafana_api_key",
        lambda m: f"gl{'sa'}_{m.text(32)}_{m.text(8, HEX)}",
    ),
    (
        "pagerduty",
        "pagerduty_token pagerduty_api_key pd_token",
        _prefixed("u", "+", size=18, alphabet=URL_SAFE),
    ),
    ("linear", "linear_api_key linear_token", _prefixed("lin", "_api_", size=40)),
    ("notion", "notion_token notion_api_key notion_secret", _prefixed("nt", "n_", size=46)),
    ("figma", "figma_token figma_access_token", _prefixed("fi", "gd_", size=40, alphabet=URL_SAFE)),
    (
        "airtable",
        "airtable_api_key airtable_token",
        lambda m: f"pa{'t'}{m.text(14)}.{m.text(64, HEX)}",
    ),
    (
        "atlassian",
        "jira_api_token confluence_token atlassian_token",
        lambda m: f"AT{'ATT3'}xFfGF0{m.text(174, URL_SAFE)}={m.text(8, UPPER_HEX)}",
    ),
    ("cloudflare", "cloudflare_api_token cf_api_token", _random(40, URL_SAFE)),
    ("cloudflare_global", "cloudflare_api_key cf_api_key", _random(37, HEX)),
    ("heroku", "heroku_api_key heroku_token", uuid),
    ("vault", "vault_token vault_root_token", _prefixed("hv", "s.", size=24)),
    (
        "terraform_cloud",
        "tfe_token terraform_token atlas_token",
        lambda m: f"{m.text(14)}.atlas{'v1'}.{m.text(67, URL_SAFE)}",
    ),
    ("pulumi", "pulumi_access_token", _prefixed("pu", "l-", size=40, alphabet=HEX)),
    ("doppler", "doppler_token", _prefixed("dp", ".pt.", size=43)),
    ("postman", "postman_api_key", lambda m: f"PM{'AK'}-{m.text(24, HEX)}-{m.text(34, HEX)}"),
    (
        "planetscale",
        "planetscale_token database_token",
        _prefixed("pscale", "_tkn_", size=43, alphabet=URL_SAFE),
    ),
    ("supabase", "supabase_service_key supabase_key service_role_key", _session_jwt),
    (
        "mapbox",
        "mapbox_token mapbox_secret_token",
        lambda m: f"s{'k'}.eyJ1Ijoi{m.text(60)}.{m.text(22, URL_SAFE)}",
    ),
    (
        "square",
        "square_access_token square_token",
        _prefixed("EA", "AA", size=60, alphabet=URL_SAFE),
    ),
    ("paypal", "paypal_client_secret paypal_secret", _prefixed("E", size=79, alphabet=URL_SAFE)),
    ("plaid", "plaid_secret plaid_client_secret", _random(30, HEX)),
    ("braintree", "braintree_private_key private_key", _random(32, HEX)),
    (
        "azure_storage",
        "storage_account_key azure_storage_key account_key",
        lambda m: _b64(m.octets(64)),
    ),
    (
        "azure_connection",
        "azure_storage_connection_string connection_string storage_connection",
        _azure_connection,
    ),
    (
        "azure_client_secret",
        "azure_client_secret arm_client_secret client_secret",
        lambda m: f"{m.text(3)}8Q~{m.text(34, URL_SAFE)}",
    ),
    (
        "alibaba_id",
        "aliyun_access_key_id oss_access_key access_key_id",
        _prefixed("LT", "AI", size=20),
    ),
    ("alibaba_secret", "aliyun_access_key_secret oss_secret access_key_secret", _random(30)),
    ("tencent_id", "tencent_secret_id secret_id cos_secret_id", _prefixed("AK", "ID", size=32)),
    ("tencent_secret", "tencent_secret_key cos_secret_key secret_key", _random(32)),
    (
        "wechat_secret",
        "wechat_app_secret app_secret mp_secret secret weixin_secret",
        _random(32, HEX),
    ),
    ("qiniu", "qiniu_secret_key secret_key access_key", _random(40, URL_SAFE)),
    ("cloudinary", "cloudinary_api_secret api_secret", _random(27, URL_SAFE)),
    (
        "cloudinary_url",
        "cloudinary_url",
        lambda m: (
            f"cloudinary://{m.text(15, '123456789')}:{m.text(27, URL_SAFE)}@{m.text(8, string.ascii_lowercase)}"
        ),
    ),
    ("algolia", "algolia_admin_key algolia_api_key search_admin_key", _random(32, HEX)),
    ("okta", "okta_api_token okta_token", _prefixed("0", "0", size=40, alphabet=URL_SAFE)),
    ("auth0", "auth0_client_secret client_secret", _random(64, URL_SAFE)),
    ("keycloak", "keycloak_client_secret client_secret oidc_client_secret", uuid),
    ("firebase_secret", "firebase_database_secret database_secret", _random(40)),
    ("pusher", "pusher_app_secret pusher_secret", _random(20, HEX)),
    (
        "recaptcha",
        "recaptcha_secret_key captcha_secret recaptcha_secret",
        _prefixed("6", "L", size=38, alphabet=URL_SAFE),
    ),
    ("sonar", "sonar_token sonarqube_token", _prefixed("sq", "p_", size=40, alphabet=HEX)),
    ("circleci", "circleci_token circle_token ci_token", _random(40, HEX)),
    ("gitea", "gitea_access_token gitea_token git_token", _random(40, HEX)),
    ("jenkins", "jenkins_api_token jenkins_token", lambda m: "11" + m.text(32, HEX)),
    ("artifactory", "artifactory_api_key artifactory_token", _prefixed("AK", "Cp", size=69)),
    (
        "jwt",
        "access_token auth_token jwt bearer_token api_token id_token refresh_token",
        _session_jwt,
    ),
    (
        "jwt_secret",
        "jwt_secret jwt_secret_key jwt_signing_key token_secret",
        lambda m: m.text(24 + m.octets(1)[0] % 41, URL_SAFE),
    ),
    (
        "django_secret",
        "secret_key django_secret_key",
        lambda m: m.text(50, "abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)"),
    ),
    ("rails_secret", "secret_key_base", _random(128, HEX)),
    ("laravel_key", "app_key", lambda m: "base64:" + _b64(m.octets(32))),
    (
        "session_secret",
        "session_secret cookie_secret flask_secret_key cookie_password",
        lambda m: m.text(20 + m.octets(1)[0] % 30, ALNUM),
    ),
    (
        "fernet",
        "fernet_key encryption_key",
        lambda m: base64.urlsafe_b64encode(m.octets(32)).decode(),
    ),
    (
        "aes_hex",
        "encryption_key aes_key data_key cipher_key",
        lambda m: m.text((32, 64)[m.octets(1)[0] % 2], HEX),
    ),
    ("aes_base64", "encryption_key aes_key master_key kms_key", lambda m: _b64(m.octets(32))),
    (
        "aes_digits",
        "aes_key request_key response_key des_key",
        lambda m: m.text((16, 24, 32)[m.octets(1)[0] % 3], DIGITS),
    ),
    (
        "hmac_key",
        "hmac_key signing_key signature_key webhook_signing_secret",
        lambda m: m.text((32, 40, 64)[m.octets(1)[0] % 3], HEX),
    ),
    ("jwk_private", "d k", _jwk_private),
    (
        "api_key_hex",
        "api_key apikey app_key x_api_key weather_api_key map_key",
        lambda m: m.text((24, 32, 40)[m.octets(1)[0] % 3], HEX),
    ),
    (
        "api_key_random",
        "api_key apikey service_key integration_key partner_key",
        lambda m: m.text(20 + m.octets(1)[0] % 30, ALNUM),
    ),
    ("api_key_uuid", "api_key apikey subscription_key access_token customer_token", uuid),
    (
        "token_hex",
        "token auth_token access_token api_token deploy_token",
        lambda m: m.text((32, 40, 64)[m.octets(1)[0] % 3], HEX),
    ),
    (
        "token_random",
        "token auth_token refresh_token api_token internal_token service_token",
        lambda m: m.text(24 + m.octets(1)[0] % 40, URL_SAFE),
    ),
    (
        "client_secret",
        "client_secret oauth_secret oauth2_client_secret consumer_secret app_secret",
        lambda m: m.text(24 + m.octets(1)[0] % 24, URL_SAFE),
    ),
    (
        "random_password",
        "password db_password admin_password root_password smtp_password passwd",
        lambda m: m.text(10 + m.octets(1)[0] % 15, ALNUM),
    ),
    (
        "random_password_symbols",
        "password db_password redis_password master_password passwd mysql_password",
        lambda m: m.text(9 + m.octets(1)[0] % 12, ALNUM + "!@#%^*-_=+."),
    ),
    (
        "license",
        "license_key product_key",
        lambda m: "-".join(m.text(5, UPPER_DIGITS) for _ in range(5)),
    ),
    (
        "basic_auth",
        "authorization basic_auth auth_header",
        lambda m: "Basic " + _b64(f"{m.text(6, string.ascii_lowercase)}:{m.text(12)}".encode()),
    ),
    ("bearer", "authorization auth_header", lambda m: "Bearer " + m.text(40, URL_SAFE)),
)

_PASSWORD_NAMES = [
    "password",
    "db_password",
    "admin_password",
    "root_password",
    "passwd",
    "pwd",
    "smtp_password",
    "redis_password",
    "mysql_root_password",
    "postgres_password",
    "mail_password",
    "user_password",
    "default_password",
    "keystore_password",
    "database_password",
    "login_password",
    "ldap_password",
    "ftp_password",
    "administrator_login_password",
    "rabbitmq_password",
    "mongo_password",
    "ssh_password",
    "pass",
    "spring_datasource_password",
    "admin_pass",
    "basic_auth_password",
    "vnc_password",
    "wifi_password",
]

_KEY_WALKS = (
    "1qaz2wsx", "qwerty", "asdfgh", "zxcvbn", "qazwsx", "1q2w3e4r", "123qwe", "q1w2e3", "147258",
    "zaq12wsx", "qweasd", "poiuyt", "159357", "!QAZ2wsx", "1234qwer", "asdf1234",
)  # fmt: skip
_DEFAULTS = (
    "admin", "root", "123456", "postgres", "guest", "password", "admin123", "root123", "12345678",
    "rabbit", "minioadmin", "elastic", "toor", "admin@123", "P@ssw0rd", "test123", "mysql", "redis",
    "default", "secret", "demo", "welcome1", "111111", "000000", "oracle", "sa", "master", "grafana",
    "kibana", "druid", "nacos", "jenkins", "sonar", "tomcat", "manager", "user", "pass", "root1234",
)  # fmt: skip
_LEET = str.maketrans("aeios", "@3105")
_FOREIGN = [
    "sommer",
    "winter",
    "hund",
    "katze",
    "sonne",
    "berlin",
    "passwort",
    "wasser",
    "blume",
    "verde",
    "sol",
    "luna",
    "perro",
    "gato",
    "amigo",
    "contrasena",
    "bonjour",
    "soleil",
    "chocolat",
    "maison",
    "fleur",
    "woaini",
    "nihao",
    "beijing",
    "shanghai",
    "mima",
    "sakura",
    "hikari",
    "tokyo",
    "privet",
    "moskva",
    "lubov",
    "dragao",
    "senha",
    "brasil",
    "jogador",
    "krasota",
    "zima",
]


class People:
    """Passwords as people make them, out of the words of real documents."""

    def __init__(self, words: list[str], seed: int) -> None:
        self._words = words
        self._random = random.Random(seed)

    def word(self) -> str:
        """A word in lower case, now and then of another language."""
        chance = self._random
        return chance.choice(_FOREIGN if chance.random() < 0.12 else self._words)

    def _number(self) -> str:
        chance = self._random
        year = str(chance.randint(1960, 2026))
        return chance.choice((year, year[2:], str(chance.randint(0, 9999)), "1", "123", "007"))

    def password(self) -> str:
        """Word and number, two words, keyboard walk, company and year, a phrase."""
        chance = self._random
        first, second, number = self.word(), self.word(), self._number()
        mark = chance.choice("!!!@#$*._-?")
        return chance.choice(
            (
                lambda: first.capitalize() + number + mark,
                lambda: first + number,
                lambda: first + second,
                lambda: first.capitalize() + second.capitalize() + number,
                lambda: first + chance.choice("-_.") + second + chance.choice("-_.") + self.word(),
                lambda: first + "-" + number + "-" + second,
                lambda: first.translate(_LEET) + number,
                lambda: first.capitalize().translate(_LEET) + mark + number,
                lambda: first + "@" + number,
                lambda: chance.choice(_KEY_WALKS) + chance.choice(("", mark, number, first)),
                lambda: first.upper() + mark + number + second,
                lambda: first[:4] + second[:3] + number,
                lambda: "".join(self.word()[0] for _ in range(7)) + number,
                lambda: first + chance.choice(("pass", "pw", "pwd", "admin", "secret")) + number,
                lambda: first if len(first) > 7 else first + second[:3] + number,
                lambda: mark + first.capitalize() + number + second[:2].upper(),
            )
        )()

    def default(self) -> str:
        """A password that thousands share."""
        return self._random.choice(_DEFAULTS)


def kinds(people: People) -> list[Kind]:
    """Every kind of credential; the names are in snake case."""
    made = [Kind(name, "planted", tuple(names.split()), make) for name, names, make in _PROVIDERS]
    names = tuple(_PASSWORD_NAMES)
    made.append(Kind("word_password", "planted_word", names, lambda _: people.password()))
    made.append(Kind("default_password", "default_password", names, lambda _: people.default()))
    return made


def _placeholder(make: Maker, name: str) -> str:
    chance = make.octets(2)
    words = name.replace("_", " ")
    dashed = name.replace("_", "-")
    shapes = (
        f"your-{dashed}",
        f"your_{name}_here",
        f"YOUR_{name.upper()}",
        f"<{dashed}>",
        f"<your {words}>",
        "changeme",
        "change-me",
        "CHANGE_ME_IN_PRODUCTION",
        "xxxxxxxxxxxxxxxx",
        "XXXXXXXX-XXXX-XXXX",
        "********",
        f"example-{dashed}",
        f"my-{dashed}",
        f"REPLACE_WITH_{name.upper()}",
        f"{name}_placeholder",
        "todo",
        "dummy",
        "null",
        "none",
        f"insert {words} here",
        "s3cr3t-example",
        "redacted",
        "...",
    )
    return shapes[chance[0] % len(shapes)]


def _reference(make: Maker, name: str) -> str:
    upper, dashed = name.upper(), name.replace("_", "-")
    shapes = (
        f"${{{upper}}}",
        f"${upper}",
        f"{{{{ {name} }}}}",
        f"{{{{ .Values.{name} }}}}",
        f"${{{{ secrets.{upper} }}}}",
        f"%({name})s",
        f"${{{upper}:-}}",
        f"vault:secret/data/app#{name}",
        f"arn:aws:secretsmanager:eu-west-1:{make.text(12, DIGITS)}:secret:{dashed}",
        f"@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/{dashed})",
        f"secret://{dashed}",
        f"ENC[AES256_GCM,data:{_b64(make.octets(24))}]",
        f"/run/secrets/{name}",
        f"file:///etc/app/{dashed}",
        f"process.env.{upper}",
        f"#{{ENV['{upper}']}}",
        f"env:{upper}",
        f"ssm:/app/{dashed}",
    )
    return shapes[make.octets(1)[0] % len(shapes)]


def _wording(make: Maker, name: str) -> str:
    words = name.replace("_", " ")
    parts = name.split("_")
    camel = parts[0] + "".join(part.capitalize() for part in parts[1:])
    shapes = (
        f"Please enter your {words}",
        f"Invalid {words}",
        f"The {words} is required.",
        f"{words.capitalize()} updated successfully",
        f"Forgot your {words}?",
        camel,
        f"{name}_field",
        f"{name}.updated",
        f"/api/v1/{name.replace('_', '-')}",
        f"reset{camel[0].upper()}{camel[1:]}",
        f"input-{name.replace('_', '-')}",
        words.capitalize(),
        "string",
        "text",
        f"user.{camel}",
        f"{name}_id",
        "required",
        "true",
        f"X-{'-'.join(part.capitalize() for part in parts)}",
        f"Confirm {words}",
        f"com.acme.auth.{camel[0].upper()}{camel[1:]}Provider",
    )
    return shapes[make.octets(1)[0] % len(shapes)]


# Names whose values are random and public, and how these look.
PUBLIC: tuple[tuple[str, str, Callable[[Maker], str]], ...] = (
    ("uuid", "id trace_id request_id tenant_id client_id app_id object_id correlation_id guid", uuid),
    ("commit", "git_commit revision commit_sha sha ref", _random(40, HEX)),
    ("checksum", "checksum sha256 digest fingerprint md5 etag hash", lambda m: hashlib.sha256(m.octets(8)).hexdigest()[: (32, 40, 64)[m.octets(1)[0] % 3]]),
    ("integrity", "integrity hash checksum", lambda m: f"sha512-{_b64(m.octets(64))}"),
    ("key_id", "kid key_id thumbprint serial_number cert_fingerprint", lambda m: m.text(40, (HEX, UPPER_HEX)[m.octets(1)[0] % 2])),
    ("publishable", "stripe_publishable_key publishable_key", lambda m: "pk_" + "live_" + m.text(24)),
    ("public_key", "public_key ssh_public_key verify_key", lambda m: m.public_key()),
    ("oauth_client", "client_id google_client_id oauth_client_id", lambda m: f"{m.text(12, DIGITS)}-{m.text(32, LOWER_DIGITS)}.apps.googleusercontent.com"),
    ("app_id", "app_id appid wx_app_id corp_id", lambda m: "wx" + m.text(16, HEX)),
    ("analytics", "tracking_id measurement_id analytics_key", lambda m: "G-" + m.text(10, UPPER_DIGITS)),
    ("nonce", "nonce iv salt nonce_str", lambda m: m.text((12, 16, 32)[m.octets(1)[0] % 3], (HEX, ALNUM)[m.octets(1)[0] % 2])),
    ("bcrypt", "password_hash hashed_password encrypted_password", lambda m: f"$2{'b'}$12${m.text(53, ALNUM + './')}"),
    ("alphabet", "alphabet charset chars allowed_chars", lambda m: (ALNUM, string.ascii_lowercase + DIGITS, BASE64)[m.octets(1)[0] % 3]),
    ("encoded_text", "message payload data content", lambda m: _b64(json.dumps({"id": m.text(4, DIGITS), "text": "see you soon"}).encode())),
    ("resource", "bucket arn topic queue_name cache_key", lambda m: f"arn:aws:sns:us-east-1:{m.text(12, DIGITS)}:orders-{m.text(6, HEX)}"),
    ("etag_path", "path url endpoint file", lambda m: f"assets/{m.text(8, HEX)}/main.{m.text(20, HEX)}.js"),
)  # fmt: skip


def false_value(make: Maker, name: str) -> tuple[str, str]:
    """Kind and text of what stands where a credential could: placeholder, reference, wording."""
    kind, build = (
        ("placeholder", _placeholder),
        ("placeholder", _placeholder),
        ("reference", _reference),
        ("text", _wording),
    )[make.octets(1)[0] % 4]
    return kind, build(make, name)
