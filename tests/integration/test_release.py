"""A release: it runs where an old glibc is and no Python, and it can be verified and made again."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from importlib.metadata import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from build.release import glibc
from dso.protocol.codes import UNAUTHENTICATED, UNAVAILABLE
from dso.version import VERSION
from tests.support import release_binaries as release
from tests.support.plugin import Plugin
from tests.support.process import PYTHON, ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_GLIBC = (2, 28)  # RHEL 8, Debian 10

SETTINGS: dict[str, dict[str, Any]] = {
    "aws": {"region": "eu-west-1", "access_key_id": "AKIAEXAMPLE", "secret_access_key": "example"},
    "azure": {
        "vault_url": "https://example.vault.azure.net",
        "auth": {"method": "client_secret", "tenant_id": "t", "client_id": "c", "client_secret": "example"},
    },
    "huawei": {
        "region": "tr-west-1",
        "project_id": "0123456789abcdef0123456789abcdef",
        "auth": {"method": "aksk", "access_key": "example", "secret_key": "example"},
    },
    "vault": {"address": "https://vault.example.com:8200", "auth": {"method": "token", "token": "example"}},
}


@pytest.fixture(scope="module", params=release.DEBIANS)
def old_machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[release.OldMachine]:
    machine = release.OldMachine(request.param, tmp_path_factory.mktemp("root"))
    yield machine
    shutil.rmtree(machine.root)  # pytest keeps what is left, and this is large


def test_runs_on_debian_without_python(old_machine: release.OldMachine) -> None:
    assert not [path for path in old_machine.root.glob("usr/**/*python*") if "gdb" not in path.parts]
    assert json.loads(old_machine.run("docker-dso", "docker-cli-plugin-metadata").stdout)["Version"] == VERSION
    assert old_machine.run("docker-dso", "version").out.split()[-1] == VERSION
    assert old_machine.run("dso-agent", "--version").out.split()[-1] == VERSION


def test_keeps_a_vault_on_debian_without_python(old_machine: release.OldMachine) -> None:
    old_machine.run("docker-dso", "init")
    old_machine.run("docker-dso", "secret", "set", "shop/key", input="the value")
    assert old_machine.run("docker-dso", "secret", "get", "shop/key").stdout == b"the value"
    file = old_machine.root / "root" / "passphrase"
    file.write_text("correct horse battery staple")
    file.chmod(0o600)
    passphrase = {"HOME": "/root/another", "DSO_PASSPHRASE_FILE": "/root/passphrase"}
    (old_machine.root / "root" / "another").mkdir()
    old_machine.run("docker-dso", "init", "--passphrase", env=passphrase)
    old_machine.run("docker-dso", "secret", "set", "shop/key", input="another", env=passphrase)
    assert old_machine.run("docker-dso", "secret", "get", "shop/key", env=passphrase).stdout == b"another"
    assert os.listdir(old_machine.root / "tmp") == []


@pytest.mark.parametrize("provider", release.PROVIDERS)
def test_plugins_start_and_reach_for_their_backend_on_debian_without_python(
    old_machine: release.OldMachine, provider: str
) -> None:
    with Plugin(old_machine.words(f"/usr/local/bin/dso-provider-{provider}")) as plugin:
        initialized = plugin.initialize(SETTINGS[provider])
        assert (initialized.provider, initialized.version) == (provider, VERSION)
        assert plugin.call("get", {"path": "prod-db"}).code in (UNAVAILABLE, UNAUTHENTICATED)  # there is no network


@pytest.mark.parametrize("name", release.NAMES)
def test_no_object_in_a_binary_needs_a_newer_glibc_than_2_28(name: str) -> None:
    needs = glibc.needs_of(release.BINARIES[name])
    assert len(needs) > 2
    assert {one.name: one.glibc for one in needs if one.glibc > OLDEST_GLIBC} == {}
    assert glibc.missing_libraries(needs) == {}


# The tarball


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "key.pem"
    run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)])
    return str(path)


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory, key: str) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("dist")
    yield release.make_tarball(directory, key)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def tree(tarball: str) -> Path:
    """What is in it, to be left as it is."""
    directory = Path(tarball).parent / "unpacked"
    directory.mkdir()
    run(["tar", "-C", str(directory), "-xzf", tarball])
    (found,) = directory.iterdir()
    return found


def test_another_build_of_the_same_commit_gives_the_same_bytes(tarball: str, key: str, tmp_path: Path) -> None:
    another = content(release.make_tarball(tmp_path, key))
    shutil.rmtree(tmp_path)
    assert another == content(tarball)


def test_freezing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNODEBUGRANGES": "1",
        "DSO_BOOT_LOADER": os.path.join(release.WORK, "boot-loader"),
        "PYINSTALLER_CONFIG_DIR": str(tmp_path / "config"),
        "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "0",
    }
    words = ["--log-level", "ERROR", "--workpath", str(tmp_path / "work"), "--distpath", str(tmp_path / "bin")]
    spec = os.path.join(ROOT, "build", "specs", "docker-dso.spec")
    run([f"{release.VENV}/bin/python", "-m", "PyInstaller", *words, spec], env=environment, cwd=ROOT)
    assert content(str(tmp_path / "bin" / "docker-dso")) == content(release.BINARIES["docker-dso"])


def test_says_nothing_of_the_machine_that_made_it(tarball: str) -> None:
    with tarfile.open(tarball) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {(0, 0, "", "", 1_700_000_000)}
    assert {one.mode for one in members if one.isfile()} == {0o644, 0o755}
    assert content(tarball)[3:8] == b"\0\0\0\0\0"  # gzip: no flags, no name, no time


def test_lists_every_file_in_checksums_that_are_signed(tree: Path, key: str, tmp_path: Path) -> None:
    listed = {line[66:] for line in (tree / "SHA256SUMS").read_text().splitlines()}
    present = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert present - listed == {"SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.csr"}
    run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=str(tree))
    public = str(tmp_path / "public.pem")
    run(["openssl", "pkey", "-in", key, "-pubout", "-out", public])
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin"]
    verify += ["-sigfile", str(tree / "SHA256SUMS.sig"), "-in"]
    run([*verify, str(tree / "SHA256SUMS")])
    (tmp_path / "changed").write_bytes((tree / "SHA256SUMS").read_bytes() + b"\n")
    assert run([*verify, str(tmp_path / "changed")], check=False).returncode != 0


def test_the_openssl_of_every_debian_can_verify_the_checksums(
    old_machine: release.OldMachine, tree: Path, key: str
) -> None:
    for name in ("SHA256SUMS", "SHA256SUMS.csr"):
        shutil.copy(tree / name, old_machine.root / "root")
    public = run(["openssl", "pkey", "-in", key, "-pubout"]).out
    request = ["openssl", "req", "-config", "/dev/null", "-in", "/root/SHA256SUMS.csr", "-noout"]
    digest = old_machine.run("sha256sum", "/root/SHA256SUMS").out.split()[0]
    verified = old_machine.run(*request, "-verify")
    assert "verify OK" in verified.out + verified.err
    assert old_machine.run(*request, "-subject").out.replace(" ", "").strip() == f"subject=CN={digest}"
    assert old_machine.run(*request, "-pubkey").out == public
    assert f"'{''.join(public.splitlines()[1:-1])}'" in (tree / "install.sh").read_text()


def test_has_licences_of_everything_in_it(tree: Path) -> None:
    bill = json.loads((tree / "sbom.cdx.json").read_text())
    names = {one["name"] for one in bill["components"]} - set(release.NAMES)
    assert {"python3.13", "openssl", "cryptography", "aiohttp", "boto3"} <= names
    assert "pyinstaller" not in names  # it puts binaries together, and nothing of it is in them
    assert {path.name for path in (tree / "licenses").iterdir()} == names
    assert all(any(path.iterdir()) for path in (tree / "licenses").iterdir())


def test_has_a_valid_bill_of_materials(tree: Path) -> None:
    bill = json.loads((tree / "sbom.cdx.json").read_text())
    found = [path for path in files("cyclonedx-python-lib") or () if path.name.endswith(".schema.json")]
    schemas = {path.name.partition(".SNAPSHOT")[0]: json.loads(path.read_text()) for path in found}
    parts = ("cryptography-defs", "jsf-0.82", "spdx")
    registry = jsonschema_rs.Registry(
        [(f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", schemas[name]) for name in parts]
    )
    validator = jsonschema_rs.validator_for(schemas["bom-1.6"], registry=registry)
    assert [str(error) for error in validator.iter_errors(bill)] == []
    assert not validator.is_valid({**bill, "components": [{"name": "without a type"}]})
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(references) == len(set(references))
    assert {one for entry in bill["dependencies"] for one in entry["dependsOn"]} == set(references)


def test_its_bill_of_materials_says_which_sources_were_accepted_instead_of_the_newest(tree: Path) -> None:
    bill = json.loads((tree / "sbom.cdx.json").read_text())
    accepted = release.accepted_sources()
    assert [one["value"] for one in bill["metadata"]["properties"]] == accepted
    used = {f"{one['name']}={one['version']}": one["properties"] for one in bill["components"] if "properties" in one}
    assert {name.partition("=")[0] for name in used} == {"python3.13", "openssl", "expat", "zlib", "libffi"}
    for name, properties in used.items():
        assert ("dso:accepted" in [one["name"] for one in properties]) is (name in accepted)


def test_without_their_names_no_release_is_made_of_older_sources(tmp_path: Path, key: str) -> None:
    """Of an interpreter as `make test` makes it, whose lists nobody has held to be valid still."""
    interpreter = tmp_path / "interpreter"
    interpreter.mkdir()
    for path in Path(release.interpreter()).iterdir():
        (interpreter / path.name).symlink_to(path)
    (interpreter / "listed").unlink()
    (interpreter / "listed").write_text("lists unchecked checked\nzlib 1-1 1-2\n")
    words = ["--venv", release.VENV, "--interpreter", str(interpreter), "--work", str(tmp_path)]
    words += ["--output", str(tmp_path / "dist"), *release.BINARIES.values()]
    environment = {"DSO_SIGNING_KEY": key, "PATH": os.environ["PATH"]}
    done = run([PYTHON, "-m", "build.release.dist", *words], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 1
    assert 'DSO_ACCEPT_SOURCES="lists=unchecked zlib=1-1"' in done.err
    assert not (tmp_path / "dist").exists()


def content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_a_binary_that_needs_more_is_refused(tmp_path: Path, key: str) -> None:
    everyday = tmp_path / "docker-dso"
    shutil.copy(os.path.join(ROOT, "dist", "bin", "docker-dso"), everyday)
    words = ["--venv", release.VENV, "--interpreter", release.interpreter(), "--work", str(tmp_path)]
    words += ["--output", str(tmp_path), str(everyday)]
    environment = {"DSO_SIGNING_KEY": key, "PATH": os.environ["PATH"]}
    environment["DSO_ACCEPT_SOURCES"] = " ".join(release.accepted_sources())
    python = os.path.join(ROOT, ".venv", "bin", "python")
    done = run([python, "-m", "build.release.dist", *words], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 1
    assert "needs glibc 2." in done.err
