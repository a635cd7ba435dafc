"""What `docker dso system setup` writes: a commented dso.yaml for the chosen providers, and the variables it needs.

A commented line `    # key: value  # remark` of a provider works when its `# ` is taken away; where the key stands
above already, in its place. A test loads every one of them, and compares the keys with dso.config.provider_schema.
"""

from __future__ import annotations

from typing import NamedTuple

from dso import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Variable(NamedTuple):
    """A variable of agent.env: what to ask for, whether it is hidden, whether dso.yaml cannot do without it."""

    name: str
    question: str
    is_secret: bool = False
    is_needed: bool = True


class Template(NamedTuple):
    """A provider: what it is, its lines in dso.yaml, its variables."""

    title: str
    lines: str
    variables: tuple[Variable, ...]


_COMMON = """\
    # timeout: 10s  # what a secret may take, retries included
    # cache_ttl: 5m  # how long a value is served before it is read again
    # env: [HTTPS_PROXY]  # variables of agent.env that the plugin gets as well
"""

TEMPLATES: Mapping[str, Template] = {
    "vault": Template(
        "HashiCorp Vault or OpenBao, secret engine KV",
        """\
    type: vault
    address: ${VAULT_ADDR}
    auth: {method: token, token: ${VAULT_TOKEN}}
    # Other ways to log in:
    # auth: {method: token_file, token_file: /etc/dso/vault.token}
    # auth: {method: approle, role_id: ${VAULT_ROLE_ID}, secret_id: ${VAULT_SECRET_ID}}
    # auth: {method: userpass, username: dso, password: ${VAULT_PASSWORD}}
    # auth: {method: kubernetes, role: dso}
    # auth: {method: jwt, role: dso, jwt_file: /etc/dso/jwt}
    # mount: secret  # where the KV engine is mounted
    # kv_version: 2
    # namespace: team-a
    # tls: {ca_cert: /etc/dso/ca.pem}
"""
        + _COMMON,
        (
            Variable("VAULT_ADDR", "address of Vault (https://vault.example.com:8200)"),
            Variable("VAULT_TOKEN", "token for Vault", is_secret=True),
        ),
    ),
    "aws": Template(
        "AWS Secrets Manager",
        """\
    type: aws
    region: ${AWS_REGION}
    # Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in agent.env, else the role of the EC2 machine, or:
    # profile: prod  # of /root/.aws/config or /root/.aws/credentials
    # access_key_id: ${DSO_AWS_KEY}  # with the next one, for a second AWS provider
    # secret_access_key: ${DSO_AWS_SECRET}
    # session_token: ${DSO_AWS_TOKEN}  # for temporary keys
    # role_arn: arn:aws:iam::123456789012:role/read-secrets  # a role to assume
    # external_id: ${DSO_AWS_EXTERNAL_ID}
    # session_name: dso  # what CloudTrail shows
    # endpoint_url: https://vpce-0123.secretsmanager.eu-central-1.vpce.amazonaws.com
    # sts_endpoint_url: https://sts.eu-central-1.amazonaws.com
    # tls: {ca_cert: /etc/dso/ca.pem}
"""
        + _COMMON,
        (
            Variable("AWS_REGION", "region of AWS (us-east-1)"),
            Variable("AWS_ACCESS_KEY_ID", "access key id (empty: the machine's role)", is_needed=False),
            Variable("AWS_SECRET_ACCESS_KEY", "secret access key", is_secret=True, is_needed=False),
        ),
    ),
    "azure": Template(
        "Azure Key Vault",
        """\
    type: azure
    vault_url: ${AZURE_VAULT_URL}
    # Credentials: AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET in agent.env, else the machine's identity, or:
    # auth: {method: default}
    # auth: {method: managed_identity}
    # auth: {method: client_secret, tenant_id: ${TENANT}, client_id: ${CLIENT}, client_secret: ${SECRET}}
    # auth: {method: client_certificate, tenant_id: ${TENANT}, client_id: ${CLIENT}, certificate_path: /etc/dso/az.pem}
    # auth: {method: workload_identity}
    # authority: login.microsoftonline.us  # of a sovereign cloud
    # tls: {ca_cert: /etc/dso/ca.pem}
"""
        + _COMMON,
        (
            Variable("AZURE_VAULT_URL", "URL of the key vault (https://NAME.vault.azure.net/)"),
            Variable("AZURE_TENANT_ID", "tenant id (empty: the machine's identity)", is_needed=False),
            Variable("AZURE_CLIENT_ID", "client id", is_needed=False),
            Variable("AZURE_CLIENT_SECRET", "client secret", is_secret=True, is_needed=False),
        ),
    ),
    "huawei": Template(
        "Huawei Cloud CSMS",
        """\
    type: huawei
    region: ${HUAWEI_REGION}
    auth: {method: aksk, access_key: ${HUAWEI_ACCESS_KEY}, secret_key: ${HUAWEI_SECRET_KEY}}
    # auth: {method: agency}  # the agency of the ECS this machine is
    # project_id: 0123456789abcdef0123456789abcdef  # else IAM is asked, which takes a permission of its own
    # endpoint: https://csms.ap-southeast-3.myhuaweicloud.com
    # iam_endpoint: https://iam.ap-southeast-3.myhuaweicloud.com
    # tls: {ca_cert: /etc/dso/ca.pem}
"""
        + _COMMON,
        (
            Variable("HUAWEI_REGION", "region of Huawei Cloud (ap-southeast-3)"),
            Variable("HUAWEI_ACCESS_KEY", "access key"),
            Variable("HUAWEI_SECRET_KEY", "secret key", is_secret=True),
        ),
    ),
}

_HEAD = """\
# Cloud Mode of DSO on this machine: where secrets are, and which services get them.
# All keys: `man dso.yaml`. ${{VARIABLES}} are in {environment}, which only root can read.
# After a change: sudo docker dso system restart
version: 1
providers:
"""
_TAIL = """
# A secret needs no entry here: dso://{provider}/PATH works in any compose.yaml. An entry gives it a name of its own,
# or hands it to services that say nothing of DSO.
# secrets:
#   - name: shop/db
#     provider: {provider}
#     path: shop/db
#     mappings: {{password: DB_PASSWORD}}
#     targets: {{services: [api]}}

# Who may read what; without it everybody in the group {group} may read all.
# access:
#   - {{group: {group}, secrets: ["shop/*"]}}
"""
_ENVIRONMENT_HEAD = """\
# Variables for dso-agent: those of {config}, and those that the providers' SDKs look for. NAME=value, one a line;
# in 'single quotes' where a value has blanks, quotes, $, # or \\. Keep this file readable for root only (0600).
# After a change: sudo docker dso system restart
"""


def config_text(types: Iterable[str]) -> str:
    """A dso.yaml with one provider of each type, named like it."""
    chosen = list(dict.fromkeys(types))
    blocks = [f"  # {TEMPLATES[one].title}\n  {one}:\n{TEMPLATES[one].lines}" for one in chosen]
    head = _HEAD.format(environment=paths.SYSTEM_ENVIRONMENT)
    return head + "\n".join(blocks) + _TAIL.format(provider=chosen[0], group=paths.AGENT_GROUP)


def variables_of(types: Iterable[str]) -> list[Variable]:
    """What these providers need, in order."""
    return [variable for one in dict.fromkeys(types) for variable in TEMPLATES[one].variables]


def environment_text(types: Iterable[str], values: Mapping[str, str]) -> str:
    """An agent.env: variables with a value, and commented lines for the others."""
    text = _ENVIRONMENT_HEAD.format(config=paths.SYSTEM_CONFIG)
    for one in dict.fromkeys(types):
        text += f"\n# {TEMPLATES[one].title}\n"
        for variable in TEMPLATES[one].variables:
            value = values.get(variable.name, "")
            text += f"{variable.name}={quoted(value)}\n" if value else f"#{variable.name}=\n"
    return text


def quoted(value: str) -> str:
    """A value for agent.env, such that systemd and DSO read the same from it; see systemd.exec(5), EnvironmentFile=.

    The value has no line break and no other control character: `is_writable`.
    """
    if value and all(each.isascii() and (each.isalnum() or each in "_-./:@%+,=~") for each in value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    for special in '\\"$':
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'


def is_writable(value: str) -> bool:
    """Whether a value can stand in agent.env."""
    return all(each.isprintable() for each in value)
