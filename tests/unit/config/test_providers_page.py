"""docs/providers.md says of the four providers what is so, and every configuration on it is a good one.

That its examples work is tests/integration/test_providers_page.py.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ProxyConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from dso.cli.output import print_table
from dso.config.load import load_config
from dso.config.provider_schema import COMMON, TYPES
from dso.protocol.agent import Fault
from dso.protocol.codes import PLUGIN_CODES, PROVIDER_CODES
from dso.protocol.faults import class_of
from dso.protocol.provider import PLUGIN_PREFIX
from dso.providers.aws import BATCH_CALL, AwsProvider
from dso.providers.aws_errors import Place, translate
from dso.providers.azure import AzureProvider
from dso.providers.hashicorp import HashicorpProvider
from dso.providers.huawei import HuaweiProvider
from dso.providers.provider import Request
from dso.providers.serve import WORKERS
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from dso.providers.provider import Provider

with open(f"{ROOT}/docs/providers.md", encoding="utf-8") as _file:
    PAGE = _file.read()
CONFIGURATIONS = [text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "\nproviders:" in text]
CLASSES: dict[str, type[Provider]] = {
    "vault": HashicorpProvider,
    "aws": AwsProvider,
    "azure": AzureProvider,
    "huawei": HuaweiProvider,
}
METHODS = {name: section.keys["auth"].kind.sections() for name, section in TYPES.items() if "auth" in section.keys}


def rows(heading: str) -> list[list[str]]:
    """The first table below a heading; its cells."""
    found = re.search(rf"^## {re.escape(heading)}\n.*?^(\|.*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    assert found, heading
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return [line for line in lines if not set("".join(line)) <= {"-"}]


def compared(row: str) -> dict[str, str]:
    """A row of the table of the four types, by type."""
    table = {line[0]: line[1:] for line in rows("The four types")}
    types = [cell.strip("`") for cell in table["`type`"]]
    return dict(zip(types, table[row], strict=True))


def words(text: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def test_the_table_has_the_types_there_are() -> None:
    assert compared("plugin") == {name: f"`{PLUGIN_PREFIX}{name}`" for name in TYPES}
    assert CLASSES.keys() == TYPES.keys()
    for page in compared("its page").values():
        assert os.path.exists(f"{ROOT}/docs/{page[1:].partition(']')[0]}"), page


def test_the_table_has_the_required_keys() -> None:
    needed = {
        name: {key for key, one in section.keys.items() if one.required} - COMMON.keys()
        for name, section in TYPES.items()
    }
    assert {name: words(cell) for name, cell in compared("required keys").items()} == needed


def test_the_table_has_the_methods_of_logging_in() -> None:
    row = compared("`auth.method`")
    assert {name: words(row[name]) for name in METHODS} == {name: set(methods) for name, methods in METHODS.items()}
    assert words(row["aws"]) <= TYPES["aws"].keys.keys()


def test_the_table_has_how_many_secrets_one_call_reads() -> None:
    sizes = {name: BATCH_CALL if name == "aws" else 1 for name in CLASSES}
    assert compared("secrets in one call") == {name: str(size) for name, size in sizes.items()}
    assert {name for name, one in CLASSES.items() if one.batch} == {"aws"}
    assert f"calls are made side by side, up to {WORKERS} of them" in " ".join(PAGE.split())


def test_errors_have_all_codes_and_the_exit_codes_they_lead_to() -> None:
    table = rows("When something is wrong")
    assert table[0][:2] == ["code", "exit code"]
    told = {code: int(line[1]) for line in table[1:] for code in words(line[0])}
    assert told == {code: class_of(Fault(code, "")).code for code in PROVIDER_CODES | PLUGIN_CODES}


def test_the_status_on_the_page_is_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    place = Place("aws-east", "eu-central-1", "Secrets Manager in eu-central-1", None)
    failed = ProxyConnectionError(proxy_url="http://proxy", error=type("ProxyError", (Exception,), {})())
    message = translate(failed, place, Request("shop/db")).message
    shown = [("vault-prod", "vault", "running", "-"), ("aws-east", "aws", "failing", message)]
    print_table(("provider", "type", "state", "error"), shown)
    assert f"```text\n{capsys.readouterr().out}```" in PAGE


def test_the_page_shows_every_method_of_logging_in() -> None:
    shown = {
        (provider.type, provider.settings.reveal().get("auth", {}).get("method", "default"))
        for text in CONFIGURATIONS
        for provider in load_config("f", environment=variables(text), text=text).providers.values()
    }
    assert len(CONFIGURATIONS) == 2 * len(TYPES)
    assert {(name, method) for name, methods in METHODS.items() for method in methods} <= shown
    assert ("aws", "default") in shown


def variables(text: str) -> dict[str, str]:
    """A value for each variable that a configuration mentions."""
    return dict.fromkeys(re.findall(r"\$\{(\w+)", text), "00000000-0000-0000-0000-000000000000")


@pytest.fixture(scope="module")
def pem() -> str:
    """A certificate with its key, an RSA one: Entra takes no other."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    encoding = serialization.Encoding.PEM
    plain = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (builder.sign(key, hashes.SHA256()).public_bytes(encoding) + plain).decode()


def with_files(settings: Any, directory: Path, pem: str) -> Any:
    """The settings with files that are there: on this machine there are none at the page's paths."""
    if isinstance(settings, dict):
        return {key: with_files(value, directory, pem) for key, value in settings.items()}
    if isinstance(settings, str) and settings.startswith("/"):
        path = directory / settings.strip("/").replace("/", "-")
        path.write_text(pem if settings.endswith(".pem") else "content", encoding="ascii")
        return str(path)
    return settings


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_every_provider_on_the_page_can_be_opened(
    text: str, tmp_path: Path, pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aws").write_text("[profile prod]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    for name, provider in load_config("dso.yaml", environment=variables(text), text=text).providers.items():
        settings = with_files(provider.settings.reveal(), tmp_path, pem)
        CLASSES[provider.type].open(name, settings, provider.timeout).close()
