"""The parts that put a release together, without a release."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from build.release import archive, bundled, dist, latest, sbom, signing
from build.release.glibc import Needs, missing_libraries

if TYPE_CHECKING:
    from pathlib import Path

NOTHING: frozenset[str] = frozenset()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "dso-1.0"
    for name in ("b/two", "a/z/one", "top"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "top").chmod(0o700)
    return root


def test_a_tarball_depends_on_names_contents_and_execution_only(tree: Path, tmp_path: Path) -> None:
    archive.pack(str(tree), str(tmp_path / "first"), 1_000)
    for number, path in enumerate(sorted(tree.rglob("*"))):
        os.utime(path, (number, number))
    (tree / "b" / "two").chmod(0o600)
    archive.pack(str(tree), str(tmp_path / "second"), 1_000)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    (tree / "b" / "two").chmod(0o755)
    archive.pack(str(tree), str(tmp_path / "third"), 1_000)
    assert (tmp_path / "first").read_bytes() != (tmp_path / "third").read_bytes()


def test_a_tarball_has_every_directory_before_its_files(tree: Path, tmp_path: Path) -> None:
    archive.pack(str(tree), str(tmp_path / "packed"), 1_000)
    with tarfile.open(tmp_path / "packed") as tar:
        found = [(one.name, one.isdir(), one.mode) for one in tar]
    assert found == [
        ("dso-1.0", True, 0o755),
        ("dso-1.0/a", True, 0o755),
        ("dso-1.0/a/z", True, 0o755),
        ("dso-1.0/a/z/one", False, 0o644),
        ("dso-1.0/b", True, 0o755),
        ("dso-1.0/b/two", False, 0o644),
        ("dso-1.0/top", False, 0o755),
    ]


def test_checksums_are_those_of_sha256sum(tree: Path) -> None:
    theirs = subprocess.run(["sha256sum", "a/z/one", "b/two", "top"], cwd=tree, capture_output=True, check=True).stdout
    assert archive.checksums(str(tree)).encode() == theirs


def test_installing_a_file_keeps_only_whether_it_is_executable(tree: Path, tmp_path: Path) -> None:
    archive.install(str(tree / "top"), str(tmp_path / "new" / "place"))
    assert stat.S_IMODE((tmp_path / "new" / "place").stat().st_mode) == 0o755


# Keys


def test_a_throw_away_key_is_for_its_owner_only_and_stays(tmp_path: Path) -> None:
    path = signing.throw_away_key(str(tmp_path / "new" / "key.pem"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    public = signing.public_key(path)
    assert signing.public_key(signing.throw_away_key(path)) == public
    assert len(public) == 60


def test_signatures_of_the_same_are_the_same(tmp_path: Path) -> None:
    key = signing.throw_away_key(str(tmp_path / "key.pem"))
    found = []
    for name in ("one", "two"):
        (tmp_path / name).write_text("sums")
        signing.sign(key, str(tmp_path / name))
        found.append([(tmp_path / f"{name}{kind}").read_bytes() for kind in (".sig", ".csr")])
    assert found[0] == found[1]
    assert len(found[0][0]) == 64


@pytest.mark.parametrize("algorithm", ["ed448", "x25519"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, algorithm: str) -> None:
    path = str(tmp_path / "key.pem")
    subprocess.run(["openssl", "genpkey", "-algorithm", algorithm, "-out", path], check=True)
    with pytest.raises(SystemExit, match="is no Ed25519 key: openssl genpkey"):
        signing.public_key(path)


def test_a_key_that_is_not_there_is_an_error_and_no_throw_away_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSO_SIGNING_KEY", str(tmp_path / "missing.pem"))
    with pytest.raises(SystemExit, match=r"missing\.pem"):
        signing.public_key(dist.release_key(str(tmp_path)))
    assert os.listdir(tmp_path) == []


def test_without_a_key_it_says_that_the_tarball_is_for_trying_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DSO_SIGNING_KEY", raising=False)
    assert dist.release_key(str(tmp_path)) == str(tmp_path / "throw-away-key.pem")
    assert "THROW-AWAY KEY" in capsys.readouterr().err


def test_install_sh_gets_the_key_and_only_a_url_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "key='@RELEASE_KEY@' url='@BASE_URL@'"
    monkeypatch.delenv("DSO_PUBLISH_URL", raising=False)
    assert dist.fill_in(script, "MCow") == "key='MCow' url='@BASE_URL@'"
    monkeypatch.setenv("DSO_PUBLISH_URL", "https://example.com/dso")
    assert dist.fill_in(script, "MCow") == "key='MCow' url='https://example.com/dso'"


# `latest`


def test_latest_says_a_version_and_for_how_long_and_is_signed(tmp_path: Path) -> None:
    key = signing.throw_away_key(str(tmp_path / "key.pem"))
    content = latest.render("1.2.3", key, 1_700_000_000)
    assert content == latest.render("1.2.3", key, 1_700_000_000)
    lines = content.decode().splitlines()
    assert lines[:3] == ["1.2.3", "since 2023-11-14", "until 2024-05-12"]
    assert lines[3].startswith("signature ")
    assert lines[4] == "-----BEGIN CERTIFICATE REQUEST-----"
    (tmp_path / "statement").write_text("1.2.3\nsince 2023-11-14\nuntil 2024-05-12\n")
    signing.sign(key, str(tmp_path / "statement"))
    assert base64.b64decode(lines[3].split()[1]) == (tmp_path / "statement.sig").read_bytes()


@pytest.mark.parametrize("version", ["", "1.2", "1.2.3\n", "1.2.3 x", "../1.2.3"])
def test_latest_names_nothing_but_a_version(version: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not a version"):
        latest.render(version, str(tmp_path / "key.pem"), 0)


def test_latest_is_renewed_with_the_release_key_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSO_SIGNING_KEY", raising=False)
    with pytest.raises(SystemExit, match="DSO_SIGNING_KEY is not set"):
        latest.main(["1.2.3", "--output", str(tmp_path / "new")])
    monkeypatch.setenv("DSO_SIGNING_KEY", signing.throw_away_key(str(tmp_path / "key.pem")))
    latest.main(["1.2.3", "--output", str(tmp_path / "new")])
    assert os.listdir(tmp_path / "new") == ["latest"]
    assert (tmp_path / "new" / "latest").read_text().startswith("1.2.3\nsince ")


# What releases are made of


def test_a_release_of_sources_that_are_not_the_newest_is_refused_unless_each_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["security-mirror none present", "openssl 3.5.6 3.5.6", "zlib 1:1.3-1 1:1.3-2", "expat 2.9 unknown"]
    (tmp_path / "listed").write_text("\n".join(lines) + "\n")
    release = bundled.Release(str(tmp_path), str(tmp_path))
    needed = ["security-mirror=none", "zlib=1:1.3-1", "expat=2.9"]
    assert release.to_accept == needed
    monkeypatch.delenv("DSO_ACCEPT_SOURCES", raising=False)
    with pytest.raises(SystemExit, match=r'DSO_ACCEPT_SOURCES="security-mirror=none zlib=1:1\.3-1 expat=2\.9"'):
        dist.refuse_unaccepted(release.to_accept)
    monkeypatch.setenv("DSO_ACCEPT_SOURCES", "expat=2.9 zlib=1:1.3-2 security-mirror=none")
    with pytest.raises(SystemExit, match=r'DSO_ACCEPT_SOURCES="zlib=1:1\.3-1"'):
        dist.refuse_unaccepted(release.to_accept)
    monkeypatch.setenv("DSO_ACCEPT_SOURCES", " ".join(needed))
    dist.refuse_unaccepted(release.to_accept)
    document = json.loads(sbom.render(release, "1.0.0", 0, {}, {}))
    assert document["metadata"]["properties"] == [{"name": "dso:accepted", "value": one} for one in needed]


def test_the_bill_of_materials_says_what_was_used_and_what_was_accepted_instead_of_the_newest(tmp_path: Path) -> None:
    (tmp_path / "listed").write_text("openssl 3.5.6 3.5.6\nzlib 1:1.3-1 1:1.3-2\n")
    release = bundled.Release(str(tmp_path), str(tmp_path))
    sources, _ = bundled.read_listed(str(tmp_path / "listed"))
    document = json.loads(sbom.render(release, "1.0.0", 0, {"x": "0" * 64}, {"x": bundled.Content([], sources)}))
    found = {one["name"]: (one["version"], one.get("properties")) for one in document["components"]}
    assert found["openssl"] == ("3.5.6", [{"name": "dso:newest-listed", "value": "3.5.6"}])
    assert found["zlib"] == (
        "1:1.3-1",
        [{"name": "dso:newest-listed", "value": "1:1.3-2"}, {"name": "dso:accepted", "value": "zlib=1:1.3-1"}],
    )


def test_an_interpreter_whose_sources_nobody_looked_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"interpreter\.sh --newest"):
        bundled.Release(str(tmp_path), str(tmp_path))


# What binaries need


def test_a_binary_for_a_newer_glibc_is_refused() -> None:
    dist.refuse_needy("dso-agent", [Needs("boot loader", (2, 14), NOTHING), Needs("no versions", (), NOTHING)])
    with pytest.raises(SystemExit, match=r"dso-agent: library/x needs glibc 2\.35"):
        dist.refuse_needy("dso-agent", [Needs("boot loader", (2, 14), NOTHING), Needs("library/x", (2, 35), NOTHING)])


def test_2_9_is_older_than_2_28() -> None:
    dist.refuse_needy("dso-agent", [Needs("boot loader", (2, 9), NOTHING), Needs("x", (2, 28), NOTHING)])


def test_a_library_has_to_be_in_the_binary_or_on_every_machine() -> None:
    needy = Needs("extension/x", (), frozenset({"libc.so.6", "libssl.so.3", "libstdc++.so.6"}))
    bundled_library = Needs("library/libssl.so.3", (), frozenset({"libc.so.6"}))
    assert missing_libraries([needy, bundled_library]) == {"extension/x": frozenset({"libstdc++.so.6"})}
    with pytest.raises(SystemExit, match=r"extension/x needs libstdc\+\+\.so\.6, which not every machine has"):
        dist.refuse_needy("dso-agent", [needy, bundled_library])


def test_each_source_of_the_interpreter_is_assigned_to_binaries() -> None:
    script = os.path.join(dist.ROOT, "build", "release", "sources.sh")
    with open(script, encoding="utf-8") as file:
        (packages,) = [line.partition('"')[2].rstrip('"\n') for line in file if line.startswith("packages=")]
    assert set(packages.split()) == set(bundled.SOURCES_IN)
