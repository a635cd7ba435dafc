"""A write of the vault leaves the old or the new one, whole, whatever happens."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from dso.errors import VaultWriteError
from dso.secret import SecretValue
from dso.vault.keys import rekey
from dso.vault.masterkey import replace_master_key
from dso.vault.store import Vault
from dso.vault.unlock import Unlock

# Every function through which DSO changes something in a file system.
CALLS = ("open", "write", "fsync", "rename", "close", "unlink", "link", "fchmod", "fchown", "chown", "mkdir")
OLD = {"shop/x": b"old", "shop/y": b"kept"}


def _change():
    with Vault.edit() as vault:
        vault.set("shop/x", SecretValue(b"new"))


def _rekey():
    with Vault.edit() as vault:
        vault.set("shop/x", SecretValue(b"new"))
        rekey(vault)


def _in_child(action, tamper):
    """Run `action` in a child whose system calls `tamper` has wrapped; returns how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            tamper()
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_at(number, *, after):
    """Kill this process at its number-th call, before or after it; a write is cut in the middle."""

    def install():
        count = 0

        def wrap(name, original):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == number:
                    if name == "write":
                        original(args[0], bytes(args[1])[: len(args[1]) // 2])
                    elif after:
                        original(*args, **kwargs)
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        for name in CALLS:
            setattr(os, name, wrap(name, getattr(os, name)))

    return install


def _read():
    vault = Vault.open()
    vault.verify()
    return {name: vault.get(name).reveal() for name in vault.names()}


@pytest.fixture
def filled(vault_file):
    with Vault.edit() as vault:
        for name, value in OLD.items():
            vault.set(name, SecretValue(value))
    return vault_file


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("action", [_change, _rekey, replace_master_key], ids=["set", "rekey", "new master key"])
def test_kill_at_any_system_call_leaves_the_old_or_the_new_vault_whole(filled, action, after):
    directory = os.path.dirname(filled)
    before = {name: Path(f"{directory}/{name}").read_bytes() for name in ("vault.enc", "master.key")}
    outcomes = []
    for number in range(1, 200):
        ended = _in_child(action, _kill_at(number, after=after))
        found = _read()
        outcomes.append(found["shop/x"])
        assert found in (OLD, {**OLD, "shop/x": b"new"})
        with Vault.edit() as vault:
            vault.set("shop/after", SecretValue(b"works"))
        assert not [name for name in os.listdir(directory) if name.startswith(".vault")]
        for name, content in before.items():
            with open(f"{directory}/{name}", "wb") as file:
                file.write(content)
        if os.path.exists(f"{directory}/master.key.new"):
            os.unlink(f"{directory}/master.key.new")
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert number > 8  # it was killed at several places
    if action is not replace_master_key:
        assert set(outcomes) == {b"old", b"new"}


def test_interrupted_key_replacement_is_finished_by_the_next(filled):
    directory = os.path.dirname(filled)

    def fail_to_take_place():
        rename = os.rename

        def die(source, target):
            if target.endswith("master.key"):
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        setattr(os, "rename", die)  # noqa: B010  # mypy knows that it is another function

    assert _in_child(replace_master_key, fail_to_take_place) == -signal.SIGKILL
    assert os.path.exists(f"{directory}/master.key.new")
    assert _read() == OLD
    replace_master_key()
    assert not os.path.exists(f"{directory}/master.key.new")
    assert _read() == OLD
    assert len(Vault.open().header.slots) == 1


@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename", "fchmod"])
def test_failing_system_call_is_a_write_error_and_leaves_nothing_behind(filled, monkeypatch, name):
    before = Path(filled).read_bytes()

    def fail(*args, **kwargs):
        if name == "open" and not str(args[0]).endswith(".tmp"):
            return original(*args, **kwargs)
        raise OSError(28, "No space left on device")

    editing = Vault.edit()
    editing.__enter__().set("shop/x", SecretValue(b"new"))
    original = getattr(os, name)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(VaultWriteError) as refusal:
            editing.__exit__(None, None, None)
    assert "no space left on device" in refusal.value.message
    assert "former vault is in place" in refusal.value.hint
    assert Path(filled).read_bytes() == before
    assert sorted(os.listdir(os.path.dirname(filled))) == ["master.key", "vault.enc", "vault.lock"]


def test_full_disk_leaves_the_former_vault(filled, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(disk)], check=True)
    try:
        path = str(disk / "vault.enc")
        with open(filled, "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        before = Path(path).read_bytes()
        with pytest.raises(VaultWriteError, match="no space left on device"), Vault.edit(path) as vault:
            vault.set("shop/large", SecretValue(os.urandom(100_000)))
        assert Path(path).read_bytes() == before
        assert sorted(os.listdir(disk)) == ["vault.enc", "vault.lock"]
        with Vault.edit(path) as vault:
            vault.set("shop/small", SecretValue(b"fits"))
        assert Vault.open(path).get("shop/small").reveal() == b"fits"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_file_size_limit_leaves_the_former_vault(filled):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    def write_much():
        with Vault.edit(unlock=Unlock()) as vault:
            vault.set("shop/large", SecretValue(os.urandom(100_000)))

    assert _in_child(write_much, limit) == 1
    assert _read() == OLD
