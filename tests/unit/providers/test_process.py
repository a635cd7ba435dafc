"""A plugin as a process: whatever its libraries do, the conversation stays clean."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.plugin import HANG, Plugin
from tests.support.process import PYTHON, ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

# A plugin whose provider misbehaves in the way its path names.
SCRIPT = f"""
import sys
sys.path.insert(0, {ROOT!r})
import logging, os, subprocess, threading
from dso.protocol.provider import SecretData
from dso.providers.process import main
from dso.secret import SecretValue

class Provider:
    type, batch = "rude", 0
    @classmethod
    def open(cls, name, config, timeout):
        logging.getLogger("dso.rude").info("opened with %s", config["token"])
        return cls()
    def get(self, path, version):
        if path == "print":
            print("printed"); sys.stdout.flush(); os.write(1, b"written\\n")
            subprocess.run(["sh", "-c", "echo from a child"])
        elif path == "read":
            return SecretData(SecretValue(repr((os.read(0, 10), sys.stdin.read())).encode()))
        elif path == "child reads":
            return SecretData(SecretValue(subprocess.run(["cat"], capture_output=True).stdout + b"."))
        elif path == "thread":
            thread = threading.Thread(target=lambda: [][1])
            thread.start(); thread.join()
        elif path == "environment":
            return SecretData(SecretValue(os.environ.get("SEEN", "").encode()))
        return SecretData(SecretValue(b"fine"))
    def check(self):
        raise ValueError("canary")
    def close(self):
        os.write(2, b"closed\\n")

main(Provider, ["dso-provider-rude", *sys.argv[1:]])
"""


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin([PYTHON, "-P", "-c", SCRIPT], {"SEEN": "yes"}) as plugin:
        plugin.initialize({"token": "c4n4ry"})
        yield plugin
        assert plugin.garbage == []


def value(plugin: Plugin, path: str) -> bytes:
    found = plugin.get(path)
    assert not isinstance(found, Exception)
    return found.content.reveal()


def test_what_libraries_and_their_children_print_goes_to_the_log(plugin: Plugin) -> None:
    assert value(plugin, "print") == b"fine"
    for word in (b"printed", b"written", b"from a child"):
        assert word in plugin.stderr


def test_nobody_else_reads_the_requests(plugin: Plugin) -> None:
    assert value(plugin, "read") == b"(b'', '')"
    assert value(plugin, "child reads") == b"."
    assert value(plugin, "environment") == b"yes"


def test_credentials_and_the_text_of_exceptions_are_in_no_log(plugin: Plugin) -> None:
    assert plugin.call("check").code == "unavailable"
    assert value(plugin, "thread") == b"fine"
    assert b"opened with ********" in plugin.stderr
    assert b"c4n4ry" not in plugin.stderr
    assert b"canary" not in plugin.stderr
    assert b"IndexError" in plugin.stderr


def test_sigterm_lets_the_provider_close(plugin: Plugin) -> None:
    plugin.process.send_signal(signal.SIGTERM)
    assert plugin.process.wait(HANG) == 0
    assert plugin.stderr.endswith(b"closed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_of_a_terminal_are_left_to_the_agent(plugin: Plugin, number: signal.Signals) -> None:
    plugin.process.send_signal(number)
    assert value(plugin, "fine") == b"fine"


def test_memory_is_neither_dumped_nor_shown(plugin: Plugin) -> None:
    with open(f"/proc/{plugin.process.pid}/limits") as limits:
        assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["1", "1"]]


def test_closed_streams_end_it_at_once() -> None:
    done = run(["sh", "-c", 'exec "$0" -P -c "$1" <&- >&-', PYTHON, SCRIPT], check=False)
    assert (done.returncode, done.stdout) == (70, b"")
    assert done.err == "the plugin failed in a way it should not: OSError\n"
