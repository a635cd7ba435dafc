"""Copies of a plugin's files: who may read them, which links are followed, and that they are kept up to date."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from dso.agent.isolation import memory
from dso.agent.isolation.accounts import Account
from dso.agent.isolation.copies import Copies, sweep
from dso.agent.isolation.files import Source
from dso.agent.isolation.reading import LARGEST, ForeignLinkError, read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")

OWNER, GROUP, OTHER = 61001, 61003, 61002
ACCOUNT = Account("dso-test", OWNER, GROUP)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    place = str(tmp_path / "credentials")
    yield place
    for name in os.listdir(place) if os.path.isdir(place) else []:
        memory.remove(f"{place}/{name}")


def source(path: Path, label: str = "token_file") -> Source:
    return Source(str(path), setting=("auth", label))


def made(base: str, *sources: Source) -> Copies:
    copies = Copies(base, "vault/prod", sources, ACCOUNT)
    assert copies.make() == []
    return copies


def content(copies: Copies, one: Source) -> str:
    with open(copies.places[one], encoding="utf-8") as file:
        return file.read()


def test_a_copy_is_in_memory_and_roots_for_the_group_of_the_plugins_user_to_read(base: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    one = source(tmp_path / "token")
    copies = made(base, one)
    directory, file = os.stat(copies.directory), os.stat(copies.places[one])
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_gid) == (0o550, 0, GROUP)
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid) == (0o440, 0, GROUP)
    assert os.path.ismount(copies.directory)
    assert stat.S_IMODE(os.stat(base).st_mode) == 0o711
    copies.remove()
    assert os.listdir(base) == []


def test_neither_a_providers_name_nor_a_settings_leads_out_of_the_directory(base: str) -> None:
    copies = Copies(base, "../../etc/x", [Source("/a", ("../../b",)), Source("/b", ("../..", "b"))], ACCOUNT)
    assert os.path.dirname(copies.directory) == base
    assert {os.path.dirname(place) for place in copies.places.values()} == {copies.directory}
    assert len(set(copies.places.values())) == 2


def test_what_changes_is_copied_again_and_what_goes_is_taken_away(base: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    one = source(path)
    copies = made(base, one)
    (tmp_path / "new").write_text("other")
    os.rename(tmp_path / "new", path)
    assert copies.refresh() == []
    assert content(copies, one) == "other"
    before = os.stat(copies.places[one]).st_ino
    copies.refresh()
    assert os.stat(copies.places[one]).st_ino == before
    path.unlink()
    assert copies.refresh() == []
    assert not os.path.exists(copies.places[one])
    path.write_text("again")
    copies.refresh()
    assert content(copies, one) == "again"


def test_the_files_of_a_directory_are_copied_by_their_names(base: str, tmp_path: Path) -> None:
    directory = tmp_path / "authorities"
    directory.mkdir()
    (directory / "a.pem").write_text("a")
    os.symlink("a.pem", directory / "1234.0")
    os.mkfifo(directory / "pipe")
    one = Source(str(directory), variable="SSL_CERT_DIR")
    copies = made(base, one)
    assert sorted(os.listdir(copies.places[one])) == ["1234.0", "a.pem"]
    inner = os.stat(copies.places[one])
    assert (stat.S_IMODE(inner.st_mode), inner.st_uid, inner.st_gid) == (0o550, 0, GROUP)
    (directory / "a.pem").unlink()
    (directory / "b.pem").write_text("b")
    copies.refresh()
    assert os.listdir(copies.places[one]) == ["b.pem"]


def test_whatever_is_in_the_way_in_its_directory_leads_the_agent_nowhere(base: str, tmp_path: Path) -> None:
    path, victim = tmp_path / "token", tmp_path / "victim"
    path.write_text("first")
    victim.write_text("untouched")
    one = source(path)
    copies = made(base, one)
    os.chmod(copies.directory, 0o700)
    os.unlink(copies.places[one])
    os.symlink(victim, copies.places[one])
    os.symlink(victim, copies.places[one] + ".new")
    path.write_text("second")
    copies.refresh()
    assert victim.read_text() == "untouched"
    assert content(copies, one) == "second"
    assert not os.path.islink(copies.places[one])
    os.symlink(tmp_path, f"{copies.directory}/way-out")
    copies.remove()
    assert victim.exists()


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_link_in_the_place_of_a_copied_directory_has_no_file_of_others_removed(
    base: str, tmp_path: Path, change: str
) -> None:
    directory, others = tmp_path / "authorities", tmp_path / "others"
    directory.mkdir()
    others.mkdir()
    (directory / "a.pem").write_text("a")
    (others / "a.pem").write_text("untouched")
    copies = made(base, one := Source(str(directory), variable="SSL_CERT_DIR"))
    os.chmod(copies.directory, 0o700)
    os.rename(copies.places[one], copies.places[one] + ".former")
    os.symlink(others, copies.places[one])
    if change == "gone":
        (directory / "a.pem").unlink()
    else:
        (directory / "a.pem").write_text("another")
    copies.refresh()
    assert (others / "a.pem").read_text() == "untouched"


def test_messages_name_the_original(base: str, tmp_path: Path) -> None:
    one, two = source(tmp_path / "a", "jwt"), source(tmp_path / "b", "jwt_file")
    copies = Copies(base, "x", [one, two], ACCOUNT)
    text = f"cannot read {copies.places[two]}, nor {copies.places[one]}"
    assert copies.original(text) == f"cannot read {tmp_path}/b, nor {tmp_path}/a"


def test_links_of_root_and_of_the_files_owner_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("t")
    os.chown(tmp_path / "real", OWNER, OWNER)
    os.symlink("real", tmp_path / "own")
    os.chown(tmp_path / "own", OWNER, OWNER, follow_symlinks=False)
    os.symlink(tmp_path / "own", tmp_path / "roots")
    assert read_file(str(tmp_path / "roots")).content == b"t"


def test_a_link_of_somebody_else_does_not_lead_the_agent_to_a_file_of_roots(base: str, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("secret of root")
    (tmp_path / "shadow").chmod(0o600)
    os.symlink(tmp_path / "shadow", tmp_path / "token")
    os.chown(tmp_path / "token", OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(ForeignLinkError):
        read_file(str(tmp_path / "token"))
    one = source(tmp_path / "token")
    copies = Copies(base, "x", [one], ACCOUNT)
    (fault,) = copies.make()
    assert fault == f"auth.token_file ({tmp_path}/token): a link of user {OTHER} leads to a file of user 0"
    assert not os.path.exists(copies.places[one])


@pytest.mark.parametrize("what", ["pipe", "device", "large", "loop"])
def test_what_is_no_ordinary_file_is_refused_and_blocks_nobody(tmp_path: Path, what: str) -> None:
    path = tmp_path / "token"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        os.symlink("/dev/zero", path)
    elif what == "large":
        with open(path, "wb") as file:
            file.truncate(LARGEST + 1)
    else:
        os.symlink("token", path)
    with pytest.raises(OSError):
        read_file(str(path))


def test_where_nothing_can_be_mounted_a_disk_is_refused(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_mount", lambda *_: False)
    (tmp_path / "token").write_text("t")
    copies = Copies(base, "x", [source(tmp_path / "token")], ACCOUNT)
    with pytest.raises(memory.NotInMemoryError, match="on a disk"):
        copies.make()
    assert os.listdir(base) == []


def test_what_a_killed_agent_left_is_swept_and_nothing_of_one_that_runs(base: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    copies = made(base, source(tmp_path / "token"))
    left = f"{base}/old.4194999.1"  # no process has such a number: pid_max is at most 4194304
    memory.make(left, ACCOUNT)
    sweep(base)
    assert not os.path.exists(left)
    assert os.path.exists(copies.directory)


def nested(directory: str, depth: int) -> None:
    """Directories in each other, deeper than a recursion or a path can go, with a file at the end."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("a-directory", dir_fd=here)
        inner = os.open("a-directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_directory_goes_however_deep_its_content_is(base: str, tmp_path: Path, is_mounted: bool) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    left = f"{base}/old.4194999.1"
    os.makedirs(base)
    if is_mounted:
        memory.make(left, ACCOUNT)
    else:
        os.mkdir(left)
    nested(left, 1900)
    os.symlink(outside, f"{left}/way-out")
    os.symlink(tmp_path, f"{left}/another")
    memory.remove(left)
    assert os.listdir(base) == []
    assert outside.read_text() == "untouched"


def test_what_is_still_open_somewhere_holds_no_copy(base: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    copies = made(base, source(tmp_path / "token"))
    held = os.open(copies.directory, os.O_RDONLY)
    copies.remove()
    assert os.listdir(held) == []
    os.close(held)


def test_one_directory_that_cannot_be_removed_is_logged_and_keeps_no_other_from_going(
    base: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.makedirs(base)
    for name in ("a.4194999.1", "b.4194999.2", "c.4194999.3"):
        os.mkdir(f"{base}/{name}")
    remove = memory.remove

    def fails(path: str) -> None:
        if path.endswith(".2"):
            raise RecursionError
        remove(path)

    with monkeypatch.context() as patched:
        patched.setattr(memory, "remove", fails)
        sweep(base)
    assert os.listdir(base) == ["b.4194999.2"]
    assert f"copies of a plugin's files are left in {base}/b.4194999.2: RecursionError" in caplog.text
