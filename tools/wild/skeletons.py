"""Files made from the grammar of common configuration formats and languages.

Released packages hold few of the files in which credentials are really left:
deployment manifests, profiles of an application, `.env` files, seed data. Here
one made-up project is a handful of services, each with ordinary settings and
credentials, written in several formats. Comments, order, names and the share of
credentials vary by seed.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fixtures.tokens import Maker
from tools.wild.keys import jwks_file, private_key_file
from tools.wild.label import is_test
from tools.wild.plant import Plant, Planter, restyled
from tools.wild.values import Kind, People, false_value

_MARK = re.compile("\u27e6(b?)(\\d+)\u27e7")


class Entry(NamedTuple):
    """One setting: `name` in snake case; `value` is a mark where a credential goes."""

    name: str
    value: str


Lines = list[str]

# Service: ordinary settings (name=value, values with {word}, {host}, {port}), credential names.
_SERVICES = (
    ("db", "host={host} port=5432 name={word} user={word} pool_size=10 ssl_mode=require", "password"),
    ("mysql", "host={host} port=3306 database={word} username={word} charset=utf8mb4", "password root_password"),
    ("redis", "host={host} port=6379 database=0 timeout=5000", "password"),
    ("mongo", "uri_host={host} port=27017 auth_source=admin user={word}", "password"),
    ("rabbitmq", "host={host} port=5672 virtual_host=/ username={word}", "password"),
    ("mail", "host=smtp.{word}.com port=587 username=noreply@{word}.com use_tls=true", "password"),
    ("aws", "region=eu-central-1 bucket={word}-assets", "access_key_id secret_access_key"),
    ("s3", "endpoint=https://{host} bucket={word}", "access_key secret_key"),
    ("oss", "endpoint=oss-cn-hangzhou.aliyuncs.com bucket={word}", "access_key_id access_key_secret"),
    ("stripe", "currency=eur publishable_key=pk_test_placeholder", "secret_key webhook_secret"),
    ("jwt", "issuer={word} expires_in=3600 algorithm=HS256", "secret"),
    ("oauth", "client_id={word}-web redirect_uri=https://{host}/callback scope=openid", "client_secret"),
    ("google", "client_id={word} project_id={word}-prod", "api_key client_secret"),
    ("github", "org={word} api_url=https://api.github.com", "token"),
    ("gitlab", "url=https://{host} group={word}", "token"),
    ("slack", "channel=#alerts username={word}-bot", "bot_token webhook_url"),
    ("telegram", "chat_id=-100123 enabled=true", "bot_token"),
    ("openai", "model=gpt-4o temperature=0.2 base_url=https://api.openai.com/v1", "api_key"),
    ("llm", "model=qwen-max base_url=https://{host}/v1", "api_key"),
    ("wechat", "app_id=wx1234567890 notify_url=https://{host}/pay", "app_secret mch_key"),
    ("sms", "sign_name={word} template_id=1001", "access_key secret"),
    ("ldap", "url=ldap://{host}:389 base_dn=dc={word},dc=local bind_dn=cn=admin", "bind_password"),
    ("elasticsearch", "hosts=https://{host}:9200 username=elastic", "password"),
    ("minio", "endpoint={host}:9000 root_user={word}", "root_password"),
    ("grafana", "admin_user=admin domain={host}", "admin_password"),
    ("keystore", "path=conf/{word}.jks alias={word} type=PKCS12", "password"),
    ("app", "name={word} env=production debug=false log_level=info", "secret_key encryption_key"),
    ("admin", "email=admin@{word}.com username=admin", "password"),
    ("cloudinary", "cloud_name={word}", "api_secret"),
    ("sentry", "environment=production traces_sample_rate=0.1", "auth_token"),
    ("twilio", "from_number=+15005550006", "auth_token"),
    ("vault", "addr=https://{host}:8200", "token"),
    ("sonar", "host_url=https://{host} project_key={word}", "token"),
    ("kafka", "bootstrap_servers={host}:9092 security_protocol=SASL_SSL sasl_username={word}", "sasl_password"),
    ("ftp", "host={host} port=21 user={word}", "password"),
    ("registry", "server={host} username={word}", "password"),
    ("session", "cookie_name={word}_sid max_age=86400", "secret"),
    ("maps", "zoom=12 provider=google", "api_key"),
    ("payment", "gateway={word} merchant_id=100200", "secret_key api_key"),
    ("druid", "stat_view=true login_username=druid", "login_password"),
    ("proxy", "host={host} port=3128 user={word}", "password"),
    ("azure", "tenant=common resource_group={word}-rg", "client_secret storage_key"),
    ("firebase", "project_id={word} auth_domain={word}.firebaseapp.com", "api_key server_key"),
)  # fmt: skip

_REMARKS = (
    "{service} settings", "{service}", "TODO: move to vault", "production", "connection of {service}",
    "do not commit", "see wiki", "{service} 配置", "数据库密码", "staging uses the same one",
    "rotated in March", "used by the nightly job", "configuracion de {service}", "ask ops before changing",
    "Zugang zu {service}", "FIXME", "required", "since 2.1",
)  # fmt: skip


def _nested(groups: dict[str, list[Entry]], style: str) -> Lines:
    lines = []
    for service, entries in groups.items():
        lines.append(f"{service}:")
        lines += [f"  {restyled(entry.name, style)}: {entry.value}" for entry in entries]
    return lines


def _flat(groups: dict[str, list[Entry]]) -> list[Entry]:
    return [
        Entry(f"{service}_{entry.name}", entry.value)
        for service, entries in groups.items()
        for entry in entries
    ]


def _env(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    quote = chance.choice(("", "", '"', "'"))
    space = chance.choice(("", "", " "))
    prefix = chance.choice(("", "", "export "))
    lines: Lines = []
    for service, entries in groups.items():
        lines.append(f"# {chance.choice(_REMARKS).format(service=service)}")
        lines += [
            f"{prefix}{service.upper()}_{entry.name.upper()}{space}={space}{quote}{entry.value}{quote}"
            for entry in entries
        ]
        lines.append("")
    return lines


def _yaml(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    return _nested(groups, chance.choice(("a_b", "a-b", "aB")))


def _spring(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["server:", f"  port: {chance.choice((8080, 8081, 48080))}", "spring:"]
    lines += [f"  {line}" for line in _nested(groups, "a-b")]
    if chance.random() < 0.3:
        at = len(lines) - 1
        lines[at] = f"{lines[at]} # {chance.choice(_REMARKS).format(service='service')}"
    return lines


def _properties(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    head = chance.choice(("", "spring.", "app."))
    style = chance.choice(("a-b", "a_b", "aB"))
    return [
        f"{head}{service}.{restyled(entry.name, style)}={entry.value}"
        for service, entries in groups.items()
        for entry in entries
    ]


def _ini(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    space = chance.choice((" = ", "=", "   = "))
    lines: Lines = []
    for service, entries in groups.items():
        lines += [f"[{service}]", *(f"{e.name}{space}{e.value}" for e in entries), ""]
    return lines


def _toml(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    del chance
    lines: Lines = []
    for service, entries in groups.items():
        lines += [f"[{service}]", *(f'{e.name} = "{e.value}"' for e in entries), ""]
    return lines


def _json(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    style = chance.choice(("a_b", "aB", "AB"))
    content = {
        restyled(service, style): {restyled(e.name, style): e.value for e in entries}
        for service, entries in groups.items()
    }
    return json.dumps(content, indent=chance.choice((2, 4)), ensure_ascii=False).split("\n")


def _python(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    quote = chance.choice("\"'")
    lines = ["import os", "", f"DEBUG = {chance.choice(('True', 'False'))}", ""]
    if chance.random() < 0.5:
        return lines + [f"{e.name.upper()} = {quote}{e.value}{quote}" for e in _flat(groups)]
    for service, entries in groups.items():
        lines.append(f"{service.upper()} = {{")
        lines += [f"    {quote}{e.name}{quote}: {quote}{e.value}{quote}," for e in entries]
        lines += ["}", ""]
    return lines


def _python_class(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    service, entries = next(iter(groups.items()))
    lines = [f"class {service.capitalize()}Client:", "    def __init__(self):"]
    lines += [f'        self.{e.name} = "{e.value}"' for e in entries]
    lines += ["", "    def connect(self):", f"        return connect(self.{entries[0].name})"]
    for service, entries in list(groups.items())[1:]:
        arguments = ", ".join(f'{e.name}="{e.value}"' for e in entries[-2:])
        lines += ["", "", f"{service} = {service.capitalize()}({arguments})"]
    del chance
    return lines


def _script(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    quote = chance.choice("\"'`" if chance.random() < 0.2 else "\"'")
    end = chance.choice((";", ""))
    shape = chance.random()
    lines: Lines = [chance.choice(("'use strict';", "// config", "import axios from 'axios';", ""))]
    if shape < 0.4:
        lines.append(chance.choice(("module.exports = {", "export default {", "const config = {")))
        for service, entries in groups.items():
            lines.append(f"  {service}: {{")
            lines += [f"    {restyled(e.name, 'aB')}: {quote}{e.value}{quote}," for e in entries]
            lines.append("  },")
        return [*lines, f"}}{end}"]
    for service, entries in groups.items():
        keyword = chance.choice(("const", "export const", "let", "var"))
        for e in entries:
            name = restyled(f"{service}_{e.name}", chance.choice(("aB", "A_B")))
            name = name.upper() if "_" in name else name
            lines.append(f"{keyword} {name} = {quote}{e.value}{quote}{end}")
    return lines


def _java(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    word = chance.choice(("Config", "Constants", "AppProperties", "Settings"))
    lines = [
        f"package com.{chance.choice(('acme', 'shop', 'corp'))}.config;",
        "",
        f"public class {word} {{",
    ]
    modifier = chance.choice(
        ("private static final String", "public static final String", "private String")
    )
    for e in _flat(groups):
        upper = "final" in modifier
        name = e.name.upper() if upper else restyled(e.name, "aB")
        lines.append(f'    {modifier} {name} = "{e.value}";')
    return [*lines, "}"]


def _java_calls(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["    @Bean", "    public Client client() {"]
    for service, entries in groups.items():
        lines.append(
            f"        {service.capitalize()}Builder {service} = new {service.capitalize()}Builder();"
        )
        for e in entries:
            name = restyled(e.name, "AB")
            call = chance.choice((f"set{name}", restyled(e.name, "aB")))
            lines.append(f'        {service}.{call}("{e.value}");')
    return [*lines, "        return build();", "    }"]


def _go(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["package config", ""]
    if chance.random() < 0.5:
        lines.append("const (")
        lines += [f'\t{restyled(e.name, "aB")} = "{e.value}"' for e in _flat(groups)]
        return [*lines, ")"]
    lines += ["func Default() *Config {", "\treturn &Config{"]
    lines += [f'\t\t{restyled(e.name, "AB")}: "{e.value}",' for e in _flat(groups)]
    return [*lines, "\t}", "}"]


def _php(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    shape = chance.random()
    lines = ["<?php"]
    if shape < 0.35:
        lines += [f"define('{e.name.upper()}', '{e.value}');" for e in _flat(groups)]
    elif shape < 0.7:
        lines.append("return [")
        for service, entries in groups.items():
            lines += [f"    '{service}' => ["]
            lines += [f"        '{e.name}' => '{e.value}'," for e in entries]
            lines.append("    ],")
        lines.append("];")
    else:
        lines += [f'${e.name} = "{e.value}";' for e in _flat(groups)]
    return lines


def _ruby(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["# frozen_string_literal: true", "", "Rails.application.configure do"]
    for service, entries in groups.items():
        if chance.random() < 0.5:
            lines += [f"  config.{service}_{e.name} = '{e.value}'" for e in entries]
        else:
            lines.append(f"  config.{service} = {{")
            lines += [f"    {e.name}: '{e.value}'," for e in entries]
            lines.append("  }")
    return [*lines, "end"]


def _csharp(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    modifier = chance.choice(
        ("public const string", "private readonly string", "public static string")
    )
    lines = ["namespace App.Configuration", "{", "    public class Options", "    {"]
    lines += [f'        {modifier} {restyled(e.name, "AB")} = "{e.value}";' for e in _flat(groups)]
    return [*lines, "    }", "}"]


def _kotlin(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    keyword = chance.choice(("const val", "val", "private val"))
    return [
        "object Keys {",
        *(f'    {keyword} {e.name.upper()} = "{e.value}"' for e in _flat(groups)),
        "}",
    ]


def _dart(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    quote = chance.choice("'\"")
    lines = [
        f"  static const String {restyled(e.name, 'aB')} = {quote}{e.value}{quote};"
        for e in _flat(groups)
    ]
    return ["class AppConfig {", *lines, "}"]


def _hcl(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines: Lines = []
    if chance.random() < 0.4:
        for e in _flat(groups):
            lines += [f'variable "{e.name}" {{', f'  default = "{e.value}"', "}", ""]
        return lines
    for service, entries in groups.items():
        lines.append(f'resource "{service}_instance" "main" {{')
        lines += [f'  {e.name:<20} = "{e.value}"' for e in entries]
        lines += ["}", ""]
    return lines


def _tfvars(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    del chance
    return [f'{e.name} = "{e.value}"' for e in _flat(groups)]


def _dockerfile(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    equals = chance.choice(("=", " "))
    keyword = chance.choice(("ENV", "ENV", "ARG"))
    lines = [f"{keyword} {e.name.upper()}{equals}{e.value}" for e in _flat(groups)]
    return ["FROM python:3.12-slim", "WORKDIR /app", *lines, "COPY . .", 'CMD ["./run.sh"]']


def _compose(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["services:"]
    as_list = chance.random() < 0.5
    for service, entries in groups.items():
        lines += [f"  {service}:", f"    image: {service}:latest", "    environment:"]
        for e in entries:
            name = f"{service}_{e.name}".upper()
            lines.append(f"      - {name}={e.value}" if as_list else f"      {name}: {e.value}")
    return lines


def _kubernetes_secret(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    plain = chance.random() < 0.5
    lines = [
        "apiVersion: v1",
        "kind: Secret",
        "metadata:",
        f"  name: {next(iter(groups))}",
        "type: Opaque",
    ]
    lines.append("stringData:" if plain else "data:")
    for e in _flat(groups):
        value = e.value if plain else e.value.replace("\u27e6", "\u27e6b")
        if not plain and value == e.value:
            value = base64.b64encode(e.value.encode()).decode()
        lines.append(f"  {restyled(e.name, 'a-b')}: {value}")
    return lines


def _kubernetes_env(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    quote = chance.choice(("", '"'))
    lines = ["spec:", "  containers:", f"    - name: {next(iter(groups))}", "      env:"]
    for e in _flat(groups):
        lines += [f"        - name: {e.name.upper()}", f"          value: {quote}{e.value}{quote}"]
    return lines


def _workflow(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = [
        "name: deploy",
        "on: [push]",
        "jobs:",
        "  build:",
        "    runs-on: ubuntu-latest",
        "    env:",
    ]
    lines += [f"      {e.name.upper()}: {e.value}" for e in _flat(groups)]
    lines += [
        "    steps:",
        "      - uses: actions/checkout@v4",
        f"      - run: make {chance.choice(('all', 'test'))}",
    ]
    return lines


def _shell(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["#!/usr/bin/env bash", "set -euo pipefail", ""]
    for service, entries in groups.items():
        secret = entries[-1]
        lines += [
            f"{service.upper()}_{e.name.upper()}={chance.choice(('', chr(34)))}{e.value}"
            for e in entries[:-1]
        ]
        lines.append(
            chance.choice(
                (
                    f'curl -H "Authorization: Bearer {secret.value}" https://api.{service}.io/v1/items',
                    f"curl -u admin:{secret.value} https://{service}.internal/api",
                    f'curl -X POST -H "X-API-Key: {secret.value}" https://api.{service}.io/v2/run',
                    f"{service}-cli login --user deploy --password {secret.value}",
                    f"export {service.upper()}_{secret.name.upper()}='{secret.value}'",
                    f'mysql -h db -u root -p"{secret.value}" < init.sql',
                    f"sshpass -p '{secret.value}' ssh deploy@{service}.internal uptime",
                    f'PGPASSWORD="{secret.value}" psql -h {service} -U app',
                    f"docker login -u ci -p {secret.value} registry.{service}.io",
                )
            )
        )
    return [line.replace('=""', '=""') + ('"' if line.count('"') % 2 else "") for line in lines]


def _xml(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    shape = chance.random()
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    if shape < 0.35:
        lines.append("<appSettings>")
        lines += [
            f'  <add key="{restyled(e.name, "AB")}" value="{e.value}" />' for e in _flat(groups)
        ]
        return [*lines, "</appSettings>"]
    if shape < 0.65:
        lines.append("<settings><servers>")
        for service, entries in groups.items():
            lines += ["  <server>", f"    <id>{service}</id>"]
            lines += [
                f"    <{restyled(e.name, 'aB')}>{e.value}</{restyled(e.name, 'aB')}>"
                for e in entries
            ]
            lines.append("  </server>")
        return [*lines, "</servers></settings>"]
    lines.append("<resources>")
    lines += [f'    <string name="{e.name}">{e.value}</string>' for e in _flat(groups)]
    return [*lines, "</resources>"]


def _sql(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["BEGIN;"]
    for service, entries in groups.items():
        columns = ", ".join(e.name for e in entries)
        values = ", ".join(f"'{e.value}'" for e in entries)
        number = chance.randint(1, 99)
        # Text of a made-up file; no database reads it.
        insert = f"INSERT INTO {service}_config (id, {columns}) "
        lines.append(f"{insert}VALUES ({number}, {values});")
        if chance.random() < 0.3:
            lines.append(f"CREATE USER {service} WITH PASSWORD '{entries[-1].value}';")
    return [*lines, "COMMIT;"]


def _url(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines: Lines = []
    for service, entries in groups.items():
        scheme = chance.choice(
            ("postgres", "mysql", "mongodb", "redis", "amqp", "postgresql+asyncpg", "https")
        )
        user = chance.choice(("app", "root", "admin", service))
        url = f"{scheme}://{user}:{entries[-1].value}@{service}.internal:{chance.randint(1000, 9999)}/{service}"
        lines.append(
            chance.choice(
                (
                    f"{service.upper()}_URL={url}",
                    f'{service}_url: "{url}"',
                    f"{service}.url = {url}",
                    f'const uri = "{url}";',
                )
            )
        )
        lines += [f"{service.upper()}_{e.name.upper()}={e.value}" for e in entries[:-1]]
    return lines


def _notebook(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    quote = chance.choice(("'", '"'))
    source = [
        "import os\n",
        *(f"{e.name.upper()} = {quote}{e.value}{quote}\n" for e in _flat(groups)),
    ]
    cell = {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {},
        "outputs": [],
        "source": source,
    }
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1).split("\n")


def _netrc(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    del chance
    return [
        f"machine {service}.internal login deploy password {entries[-1].value}"
        for service, entries in groups.items()
    ]


def _npmrc(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    registry = chance.choice(("npm.corp.local", "nexus.internal/repository/npm"))
    return [
        "save-exact=true",
        *(f"//{registry}/:_authToken={entries[-1].value}" for entries in list(groups.values())[:1]),
    ]


def _readme(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    lines = ["# Deployment", "", "Log in with:", ""]
    for service, entries in groups.items():
        lines.append(f"## {service.capitalize()}")
        mark = chance.choice(("`", "", "**"))
        lines += [f"* {restyled(e.name, 'AB')}: {mark}{e.value}{mark}" for e in entries]
    return lines


def _postman(groups: dict[str, list[Entry]], chance: random.Random) -> Lines:
    headers = [
        {"key": restyled(e.name, "a-b"), "value": e.value, "type": "text"} for e in _flat(groups)
    ]
    content = {
        "info": {"name": chance.choice(("api", "shop", "internal"))},
        "item": [{"request": {"header": headers}}],
    }
    return json.dumps(content, indent=chance.choice((2, 4, None))).split("\n")


Renderer = Callable[[dict[str, list[Entry]], random.Random], Lines]
# Where such a file lies, and who writes it. Documents hold nothing real.
_FORMATS: tuple[tuple[Renderer, str], ...] = (
    (_env, ".env .env.production .env.local config/.env backend/.env docker/app.env server/.env.prod"),
    (_yaml, "config.yml config/config.yaml helm/values.yaml conf/application.yaml group_vars/all.yml inventory/prod.yml values-prod.yaml"),
    (_spring, "src/main/resources/application.yml src/main/resources/application-prod.yml server/src/main/resources/application-local.yaml src/main/resources/bootstrap.yml service/src/main/resources/application-dev.yml"),
    (_properties, "src/main/resources/application.properties gradle.properties conf/db.properties jenkins/secrets.properties local.properties src/main/resources/jdbc.properties"),
    (_ini, "config.ini conf/app.ini setup/db.cnf etc/service.conf odoo.conf gitea/app.ini"),
    (_toml, "config.toml .streamlit/secrets.toml settings.toml conf/default.toml wrangler.toml"),
    (_json, "config.json appsettings.json config/default.json appsettings.Production.json config/production.json settings.json"),
    (_python, "settings.py config.py app/settings/prod.py scripts/deploy.py src/constants.py backend/core/config.py"),
    (_python_class, "app/client.py src/service.py bot/main.py lib/db.py scrapers/login.py"),
    (_script, "config.js src/config/index.js config/db.js src/utils/api.ts src/environments/environment.prod.ts server.js src/constants.ts firebase.js"),
    (_java, "src/main/java/com/acme/config/Config.java app/src/main/java/com/shop/Constants.java src/main/java/com/corp/util/Settings.java"),
    (_java_calls, "src/main/java/com/acme/ClientFactory.java src/main/java/com/shop/config/BeanConfig.java"),
    (_go, "config/config.go internal/config/defaults.go cmd/server/main.go pkg/auth/keys.go"),
    (_php, "config.php wp-config.php config/database.php includes/db.php app/Config/App.php"),
    (_ruby, "config/environments/production.rb config/initializers/services.rb config/application.rb"),
    (_csharp, "src/Options.cs Config/AppConstants.cs Services/MailSettings.cs"),
    (_kotlin, "app/src/main/java/com/acme/Keys.kt src/main/kotlin/Constants.kt"),
    (_dart, "lib/config.dart lib/utils/constants.dart lib/services/api_keys.dart"),
    (_hcl, "main.tf variables.tf terraform/rds.tf infra/modules/db/main.tf terraform/azure/sql.tf"),
    (_tfvars, "terraform.tfvars env/prod.tfvars infra/secrets.auto.tfvars"),
    (_dockerfile, "Dockerfile docker/Dockerfile api/Dockerfile"),
    (_compose, "docker-compose.yml deploy/docker-compose.prod.yml compose.yaml deploy/docker/docker-compose.yml"),
    (_kubernetes_secret, "k8s/secret.yaml deploy/secrets.yml manifests/app-secret.yaml deploy/k8s/base/secret.yaml"),
    (_kubernetes_env, "k8s/deployment.yaml deploy/app.yaml charts/app/templates/deployment.yaml"),
    (_workflow, ".github/workflows/deploy.yml .gitlab-ci.yml azure-pipelines.yml bitbucket-pipelines.yml"),
    (_shell, "deploy.sh scripts/backup.sh run.sh bin/release.sh scripts/init-db.sh provision.sh user_data.tpl"),
    (_xml, "web.config settings.xml app/src/main/res/values/strings.xml src/main/resources/context.xml"),
    (_sql, "sql/init.sql db/seed.sql migrations/002_config.sql sql/mysql/data.sql"),
    (_url, ".env config/urls.conf database.conf services.properties"),
    (_notebook, "notebooks/explore.ipynb analysis.ipynb train.ipynb"),
    (_netrc, ".netrc ansible/files/netrc"),
    (_npmrc, ".npmrc frontend/.npmrc"),
    (_readme, "README.md SETUP.md deploy/README.md NOTES.txt"),
    (_postman, "postman/api.postman_collection.json document/postman_collection.json"),
)  # fmt: skip

_TESTS = (
    "tests/",
    "test/",
    "src/test/resources/",
    "spec/fixtures/",
    "e2e/",
    "tests/data/",
    "testdata/",
)
_DOCUMENTS = ("docs/", "docs/en/", "examples/", "docs/guide/", "samples/")


def _store(target: Path, lines: Lines) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _why(real: bool, path: str) -> str:
    if not real:
        return "look-alike"
    return "value of a test" if is_test(path) else "value in documentation"


class Credential(NamedTuple):
    """What a mark stands for: the real thing and its look-alike of the same name."""

    kind: Kind
    value: str
    fake_kind: str
    fake: str


class Projects:
    """Makes projects; every choice comes from one seed."""

    def __init__(self, planter: Planter, people: People, seed: int) -> None:
        self._planter = planter
        self._people = people
        self._chance = random.Random(seed)
        self._make = Maker(seed)

    def _plain(self, text: str) -> str:
        chance = self._chance
        shapes = (
            "10.0.{0}.{1}",
            "{w}.internal",
            "db.{w}.io",
            "127.0.0.1",
            "{w}",
            "192.168.{0}.{1}",
        )
        host = chance.choice(shapes).format(
            chance.randint(0, 40), chance.randint(2, 250), w=self._people.word()
        )
        return text.replace("{word}", self._people.word()).replace("{host}", host)

    def _credential(self, name: str) -> Credential:
        kind = self._planter.kind(name)
        fake_kind, fake = false_value(self._make, name)
        return Credential(kind, kind.make(self._make), fake_kind, fake)

    def _groups(self, credentials: list[Credential]) -> dict[str, list[Entry]]:
        """A few services with their settings; credentials are marks, kept in `credentials`."""
        chance = self._chance
        groups = {}
        for service, plain, secrets in chance.sample(_SERVICES, chance.randint(1, 3)):
            settings = [part.partition("=") for part in plain.split()]
            entries = [Entry(name, self._plain(value)) for name, _, value in settings]
            entries = entries[: chance.randint(1, len(entries))]
            for name in secrets.split():
                entries.append(Entry(name, f"\u27e6{len(credentials)}\u27e7"))
                credentials.append(self._credential(f"{service}_{name}"))
            groups[service] = entries
        return groups

    def _placed(self, path: str, sample: bool, document: bool) -> tuple[str, bool]:
        """The path, now and then moved to where nothing is real, and whether it was."""
        chance = self._chance
        place = chance.random()
        if place < 0.16:
            return chance.choice(_TESTS) + path, True
        if place < 0.22 and document:
            return chance.choice(_DOCUMENTS) + path, True
        if place < 0.28 and sample:
            return path + chance.choice((".example", ".sample")), True
        return path, False

    def _free(self, out: Path, source: str, path: str) -> str:
        """The path, or a deeper one where the project has such a file already."""
        while any((out / side / source / path).exists() for side in ("true", "false")):
            path = f"{self._people.word()}/{path}"
        return path

    def _keys(self, out: Path, source: str) -> list[Plant]:
        """Writes a file with a private key or a key set; half of the time without the secret."""
        chance = self._chance
        real = chance.random() < 0.6
        make_file = private_key_file if chance.random() < 0.75 else jwks_file
        inside, lines, held = make_file(self._make, chance, real)
        path, harmless = self._placed(inside, sample=False, document=True)
        if chance.random() < 0.25 and not harmless:
            path, harmless = chance.choice(_TESTS) + path, True
        path = self._free(out, source, path)
        place = f"{'true' if real else 'false'}/{source}/{path}"
        _store(out / place, lines)
        return [
            Plant(
                place,
                at,
                value,
                secret and not harmless,
                kind,
                "planted",
                secret and is_test(path),
                "" if secret and not harmless else _why(secret, path),
            )
            for at, value, kind, secret in held
        ]

    def _settings(self, out: Path, source: str) -> list[Plant]:
        """Writes a file of settings twice: with credentials, and with look-alikes."""
        chance = self._chance
        render, paths = chance.choice(_FORMATS)
        credentials: list[Credential] = []
        lines = render(self._groups(credentials), chance)
        path, harmless = self._placed(
            chance.choice(paths.split()), sample=render is _env, document=render is not _readme
        )
        path = self._free(out, source, path)
        return [
            plant
            for real in (True, False)
            for plant in self._write(out, real, f"{source}/{path}", harmless, lines, credentials)
        ]

    def write(self, out: Path, count: int) -> list[Plant]:
        """Writes `count` projects below `out/true` and `out/false`; the ledger is relative to `out`."""
        ledger = []
        for number in range(count):
            source = f"made-{self._people.word()}-{number}"
            for _ in range(self._chance.randint(3, 6)):
                ledger += self._settings(out, source)
            for _ in range(self._chance.randint(0, 2)):
                ledger += self._keys(out, source)
        return ledger

    @staticmethod
    def _write(
        out: Path,
        real: bool,
        path: str,
        harmless: bool,
        lines: Lines,
        credentials: list[Credential],
    ) -> list[Plant]:
        place = f"{'true' if real else 'false'}/{path}"
        settled: Lines = []
        ledger: list[Plant] = []
        for number, line in enumerate(lines, 1):
            for encoded, digits in _MARK.findall(line):
                credential = credentials[int(digits)]
                value = credential.value if real else credential.fake
                if encoded:
                    value = base64.b64encode(value.encode()).decode()
                line = line.replace(f"\u27e6{encoded}{digits}\u27e7", value, 1)
                ledger.append(
                    Plant(
                        place,
                        number,
                        value,
                        real and not harmless,
                        credential.kind.name if real else credential.fake_kind,
                        credential.kind.origin if real else "planted",
                        real and harmless and is_test(path),
                        _why(real, path) if harmless or not real else "",
                    )
                )
            settled.append(line)
        _store(out / place, settled)
        return ledger
