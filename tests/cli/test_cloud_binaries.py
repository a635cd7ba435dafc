"""The frozen agent and providers' plugins as files and processes: what is in them, and what they live on."""

from __future__ import annotations

import _imp
import json
import os
import shutil
import signal
import sys
import sysconfig
from typing import TYPE_CHECKING, NamedTuple

import pytest

from build.release.glibc import ON_EVERY_MACHINE
from dso.protocol.provider import SecretData
from dso.version import VERSION
from tests.support.archive import Contents, contents_of
from tests.support.aws import Moto, settings
from tests.support.azure import AzureCloud
from tests.support.certificates import self_signed
from tests.support.huawei import HuaweiCloud
from tests.support.imports import all_imports
from tests.support.plugin import HANG, Plugin
from tests.support.process import PYTHON, ROOT, run
from tests.support.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

DIRECTORY = os.path.join(ROOT, "dist", "bin")
MIB = 1024 * 1024

# Of no use in any of them, nor are their sub-modules.
UNWANTED = {
    *["moto", "flask", "werkzeug", "jinja2", "responses", "docker"],
    *["PyInstaller", "altgraph", "pytest", "_pytest", "hypothesis", "mypy", "ruff", "pexpect", "pip", "setuptools"],
    *["certifi", "pkg_resources", "unittest", "doctest", "pdb", "pydoc", "tkinter", "sqlite3", "distutils"],
    *["matplotlib", "mpl_toolkits", "pylab", "numpy", "PIL", "fontTools", "contourpy", "kiwisolver", "pyparsing"],
    "tests",
}
PROVIDERS = {"boto", "boto3", "botocore", "s3transfer", "urllib3", "jmespath", "dateutil"}
HASHICORP = {"hvac", "requests", "charset_normalizer"}
AZURE = {"azure", "msal", "jwt", "isodate", "cryptography"}
HUAWEI = {"huaweicloudsdkcore", "huaweicloudsdkcsms", "simplejson"}
# What Huawei Cloud's SDK imports for other services (see dso/providers/huawei_sdk.py).
NOT_FOR_SECRETS = {
    *["bson", "pymongo", "gridfs", "dns", "defusedxml", "pyasn1", "requests_toolbelt", "yaml", "configparser"],
    *["xml", "huaweicloudsdkcsms.v1.csms_async_client", "huaweicloudsdkcsms.v1.model.list_secrets_request"],
}
# What Azure's SDK has to send, to trace, to log in and to keep tokens in other ways.
NOT_FOR_TOKENS = {
    *["aiohttp", "yaml", "charset_normalizer", "simplejson", "msal_extensions", "msal.broker", "azure.identity.aio"],
    *["azure.keyvault.secrets.aio", "azure.core.tracing.opentelemetry", "azure.core.rest._aiohttp"],
}
# What boto3 and s3transfer have for other services, and what would start processes.
UNUSED = {
    *["boto3.crt", "boto3.dynamodb", "boto3.ec2", "boto3.examples", "boto3.s3", "s3transfer.crt"],
    *["s3transfer.processpool", "multiprocessing.dummy", "multiprocessing.forkserver", "multiprocessing.popen_fork"],
    *["multiprocessing.popen_forkserver", "multiprocessing.popen_spawn_posix", "multiprocessing.popen_spawn_win32"],
}


class Binary(NamedTuple):
    """`most_bytes` of the file, `unwanted` in this one in particular."""

    name: str
    most_bytes: int
    unwanted: set[str]

    @property
    def path(self) -> str:
        return os.path.join(DIRECTORY, self.name)

    @property
    def launcher(self) -> str:
        return "dso.entry." + self.name.replace("-", "_")


BINARIES = [
    Binary(
        "dso-agent",
        32_000_000,
        {*PROVIDERS, *HASHICORP, *AZURE, *HUAWEI, "multiprocessing", "dso.providers", "dso.cli", "dso.vault"},
    ),
    Binary(
        "dso-provider-vault",
        25_000_000,
        {*PROVIDERS - {"urllib3"}, *AZURE, *HUAWEI, "multiprocessing", "aiohttp", "yaml", "dso.agent", "dso.cli"},
    ),
    Binary(
        "dso-provider-aws",
        28_000_000,
        {*UNUSED, *HASHICORP, *AZURE, *HUAWEI, "aiohttp", "yaml", "dso.agent", "dso.cli"},
    ),
    Binary(
        "dso-provider-huawei",
        25_000_000,
        {
            *PROVIDERS - {"urllib3"},
            *AZURE,
            *NOT_FOR_SECRETS,
            "hvac",
            "multiprocessing",
            "asyncio",
            "dso.agent",
            "dso.cli",
        },
    ),
    Binary(
        "dso-provider-azure",
        38_000_000,
        {
            *PROVIDERS - {"urllib3"},
            *HUAWEI,
            *NOT_FOR_TOKENS,
            "hvac",
            "multiprocessing",
            "asyncio",
            "dso.agent",
            "dso.cli",
        },
    ),
]


@pytest.fixture(params=BINARIES, ids=lambda binary: binary.name)
def binary(request: pytest.FixtureRequest) -> Binary:
    found: Binary = request.param
    assert os.access(found.path, os.X_OK), f"{found.path} is missing: run `make binaries` first"
    return found


@pytest.fixture
def contents(binary: Binary) -> Contents:
    return contents_of(binary.path)


# What is in them


def test_size_has_its_limit(binary: Binary) -> None:
    assert os.path.getsize(binary.path) <= binary.most_bytes


def test_holds_nothing_of_the_others_and_nothing_for_development(binary: Binary, contents: Contents) -> None:
    unwanted = UNWANTED | binary.unwanted
    assert contents.scripts == [binary.launcher.rpartition(".")[2]]
    assert not {name for name in contents.importable if not unwanted.isdisjoint(prefixes(name))}


def prefixes(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[: length + 1]) for length in range(len(parts))}


def test_everything_dso_imports_is_in_it(binary: Binary, contents: Contents) -> None:
    ours = contents.importable | {binary.launcher}
    imported = {one.name for one in all_imports() if one.importer in ours}
    there = contents.importable | set(sys.builtin_module_names) | {"_archive"}  # the boot loader's
    assert {name for name in imported - there if not _imp.is_frozen(name)} == set()


def test_every_module_in_it_finds_what_it_imports(contents: Contents) -> None:
    """With nothing else to be found: each is imported from where it was frozen from."""
    code = """
import importlib, json, sys, warnings
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
warnings.simplefilter("ignore")
there = set(json.load(sys.stdin))
class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, path, target) if name in there else None
sys.path += sys.argv[1:]
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, OnlyThese()]
sys.modules["certifi"] = type(sys)("certifi")  # the launchers' stand-in
sys.modules["certifi"].where = str
for name in sorted(there):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""
    there = sorted(contents.importable)
    done = run([PYTHON, "-I", "-S", "-c", code, ROOT, sysconfig.get_path("purelib")], input=json.dumps(there))
    assert done.out.splitlines() == []


def test_holds_nothing_to_be_unpacked_or_decompressed(contents: Contents) -> None:
    assert contents.others == set()
    assert {name.partition("/")[0] for name in contents.files} <= {"data", "extension", "library"}


def test_holds_no_library_of_every_machine_nor_the_interpreters(contents: Contents) -> None:
    libraries = {name.partition("/")[2] for name in contents.named("library/")}
    assert not {name for name in libraries if name.startswith(("libc.", "libm.", "ld-", "libgcc_s.", "libpython"))}


def test_has_botocores_data_for_reading_secrets_and_none_else() -> None:
    files = contents_of(os.path.join(DIRECTORY, "dso-provider-aws")).named("data/")
    services = {name.split("/")[1] for name in files if name.count("/") > 1}
    assert services == {"secretsmanager", "sts", "sso", "sso-oidc", "signin"}
    tables = {name.removeprefix("botocore/") for name in files if name.count("/") == 1}
    assert tables == {
        *["endpoints.json", "partitions.json", "_retry.json", "sdk-default-configuration.json", "cacert.pem"]
    }


# What they live on


@pytest.mark.parametrize(
    "name", ["dso-agent", "dso-provider-vault", "dso-provider-aws", "dso-provider-azure", "dso-provider-huawei"]
)
def test_needs_no_python_nor_libraries_beside_glibc(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    bare_machine(root, name)
    mounts = f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev"
    enter = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec chroot {root} "$@"', "sh"]
    assert VERSION in run([*enter, f"/bin/{name}", "--version"]).out
    if name.startswith("dso-provider-"):
        config = {"vault": {"address": "https://127.0.0.1:9", "auth": {"method": "token", "token": "none-such"}}}
        config["aws"] = {"region": "eu-central-1", "access_key_id": "a" * 20, "secret_access_key": "b" * 20}
        config["aws"]["endpoint_url"] = "https://127.0.0.1:9"
        certificate = {"method": "client_certificate", "tenant_id": "a", "client_id": "b", "certificate_path": "/c.pem"}
        config["azure"] = {"vault_url": "https://127.0.0.1:9", "auth": certificate}
        keys = {"method": "aksk", "access_key": "a" * 20, "secret_key": "b" * 40}
        config["huawei"] = {"region": "cn-north-4", "auth": keys, "iam_endpoint": "https://127.0.0.1:9"}
        with Plugin([*enter, f"/bin/{name}"]) as plugin:
            plugin.initialize(config[name.rpartition("-")[2]], timeout=2)
            assert plugin.call("check").code == "unavailable"
    assert os.listdir(root / "tmp") == []


def bare_machine(root: Path, name: str) -> None:
    """A file system with the binary, and with what every machine with glibc has: not even OpenSSL."""
    linked = run(["ldd", os.path.join(DIRECTORY, name)]).out.split()
    libraries = [word for word in linked if word.startswith("/")]
    libc = os.path.dirname(next(word for word in libraries if "/libc.so" in word))
    for library in {*libraries, *(f"{libc}/{name}" for name in ON_EVERY_MACHINE & set(os.listdir(libc)))}:
        os.makedirs(root / os.path.dirname(library)[1:], exist_ok=True)
        shutil.copy(library, root / library[1:])
    for directory in ("bin", "dev", "proc", "tmp"):
        (root / directory).mkdir()
    shutil.copy(os.path.join(DIRECTORY, name), root / "bin" / name)
    (root / "c.pem").write_bytes(self_signed()[1])


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with Moto() as moto:
        moto.put("prod/db", "value")
        yield moto


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureCloud]:
    with AzureCloud() as azure:
        azure.put("prod-db", "value")
        yield azure


@pytest.fixture(scope="module")
def huawei() -> Iterator[HuaweiCloud]:
    with HuaweiCloud() as huawei:
        huawei.put("prod-db", "former")
        huawei.put("prod-db", "value")
        yield huawei


class Started(NamedTuple):
    """A plugin from a place and with a temporary directory of its own, initialized, asked nothing yet."""

    plugin: Plugin
    file: Path
    temporary: Path
    path: str


Case = tuple[str, "Mapping[str, Any]", "Mapping[str, str]"]  # a secret's path, settings, variables


@pytest.fixture(params=["aws", "azure", "huawei"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    file, temporary = tmp_path / f"dso-provider-{request.param}", tmp_path / "temporary"
    shutil.copy(os.path.join(DIRECTORY, file.name), file)
    temporary.mkdir()
    cases: Mapping[str, Callable[..., Case]] = {"aws": aws_case, "azure": azure_case, "huawei": huawei_case}
    cloud = request.getfixturevalue("moto" if request.param == "aws" else request.param)
    path, config, environment = cases[request.param](cloud, tmp_path)
    with Plugin([str(file)], {"TMPDIR": str(temporary), **environment}) as plugin:
        plugin.initialize(config)
        yield Started(plugin, file, temporary, path)


def aws_case(moto: Moto, _directory: Path) -> Case:
    """Reading a secret through a role loads models of two services."""
    role = {"role_arn": "arn:aws:iam::123456789012:role/reader", "sts_endpoint_url": moto.endpoint}
    return "prod/db", settings(moto, **role), {}


def azure_case(azure: AzureCloud, directory: Path) -> Case:
    """The first login reads the certificate, with a library that was not needed before."""
    application = azure.reader()
    certificate, content = self_signed()
    application.certificates.append(certificate)
    (directory / "identity.pem").write_bytes(content)
    environment = {
        "AZURE_TENANT_ID": azure.entra.tenant,
        "AZURE_CLIENT_ID": application.client_id,
        "AZURE_CLIENT_CERTIFICATE_PATH": str(directory / "identity.pem"),
    }
    return "prod/db", azure.settings(auth={"method": "default"}), {**azure.environment(), **environment}


def huawei_case(huawei: HuaweiCloud, _directory: Path) -> Case:
    """The project's id has to be asked for, and TLS to be spoken."""
    return "prod-db", huawei.settings(project_id=None), huawei.environment()


def assert_serves(started: Started) -> None:
    """Reading a secret takes modules that were not needed before."""
    found = started.plugin.get(started.path)
    assert isinstance(found, SecretData), found
    assert found.content.reveal() == b"value"
    assert started.plugin.call("check").error is None


def test_serves_on_when_its_temporary_directory_is_cleared(started: Started) -> None:
    """systemd-tmpfiles removes what nobody has touched in /tmp for ten days."""
    shutil.rmtree(started.temporary)
    assert_serves(started)


def test_serves_on_when_its_file_is_replaced(started: Started) -> None:
    newer = started.file.with_name("newer")
    newer.write_bytes(os.urandom(os.path.getsize(started.file)))
    os.rename(newer, started.file)
    assert_serves(started)


@pytest.mark.parametrize("way", ["shutdown", "end of input", "SIGTERM", "SIGKILL"])
def test_writes_nothing_to_the_temporary_directory_however_it_ends(started: Started, way: str) -> None:
    assert_serves(started)
    assert os.listdir(started.temporary) == []
    if way == "shutdown":
        started.plugin.call("shutdown")
    elif way == "end of input":
        started.plugin.close_input()
    else:
        started.plugin.process.send_signal(signal.Signals[way])
    assert started.plugin.process.wait(HANG) == (-signal.SIGKILL if way == "SIGKILL" else 0)
    assert os.listdir(started.temporary) == []


def test_is_one_process(started: Started) -> None:
    assert_serves(started)
    assert os.readlink(f"/proc/{started.plugin.process.pid}/exe") == str(started.file)
    assert descendants(started.plugin.process.pid) == []


def test_a_program_for_credentials_gets_the_machines_own_libraries_and_cannot_read_the_requests(
    moto: Moto, tmp_path: Path
) -> None:
    program = tmp_path / "credentials"
    keys = {"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing"}
    program.write_text(f"#!/bin/sh\nenv >{tmp_path}/env\ncat >{tmp_path}/input\necho '{json.dumps(keys)}'\n")
    program.chmod(0o755)
    (tmp_path / "config").write_text(f"[default]\nregion = eu-central-1\ncredential_process = {program}\n")
    env = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_EC2_METADATA_DISABLED": "true"}
    argv = [os.path.join(DIRECTORY, "dso-provider-aws")]
    for ours in ({}, {"LD_LIBRARY_PATH": "/usr/lib/theirs", "_PYI_ARCHIVE_FILE": "/none/such", "PYTHONHOME": "/none"}):
        with Plugin(argv, {**env, **ours}) as plugin:
            plugin.initialize({"endpoint_url": moto.endpoint, "region": "eu-central-1"})
            sent = [plugin.send("get", {"path": "prod/db"}) for _ in range(5)]
            assert all(isinstance(plugin.secret(number), SecretData) for number in sent)
        seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
        suspects = ("_PYI", "_MEI", "LD_LIBRARY_PATH", "PYTHON")
        assert {name: value for name, value in seen.items() if name.startswith(suspects)} == ours
        assert (tmp_path / "input").read_bytes() == b""


def test_memory_stays_within_its_limit(started: Started) -> None:
    assert_serves(started)
    assert resident(started.plugin.process.pid) <= 90 * MIB


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
