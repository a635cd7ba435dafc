"""A provider that misbehaves spoils its own secrets, says why, and harms nobody else."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import PLUGIN_CODES, PROVIDER_CODES
from dso.protocol.provider import MAX_MESSAGE_BYTES
from tests.support.agent import Agent
from tests.support.canary import Canary
from tests.support.memory import MIB, resident
from tests.support.processes import descendants
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD, BAD = Canary.new(), Canary.new()

# The path says what it answers; each answer holds a value, so that an error that quotes it is found.
_ODD = f"""#!/usr/bin/env python3
import json, os, sys, time
VALUE = {BAD.text!r}
WRONG = {{
    "array": [VALUE], "string": VALUE, "number": 7, "null": None, "empty": {{}},
    "text-number": {{"text": 5}}, "text-null": {{"text": None}}, "text-object": {{"text": {{"a": VALUE}}}},
    "fields-array": {{"fields": [VALUE]}}, "fields-text": {{"fields": VALUE}}, "two": {{"text": VALUE, "fields": {{}}}},
    "binary-no-base64": {{"binary": VALUE + "!"}}, "binary-number": {{"binary": 1}},
    "version-number": {{"text": VALUE, "version": 7}}, "version-object": {{"text": VALUE, "version": {{}}}},
    "created-text": {{"text": VALUE, "version": "1", "created_at": VALUE}},
}}
def say(words):
    sys.stdout.write(words + chr(10)); sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    number, path = request["id"], request["params"].get("path", "")
    def answer(**content):
        say(json.dumps({{"jsonrpc": "2.0", "id": number, **content}}))
    if request["method"] == "initialize":
        answer(result={{"protocol": 1, "provider": "odd", "version": "1", "capabilities": {{}}}})
    elif request["method"] == "shutdown":
        answer(result={{}}); break
    elif path in WRONG:
        answer(result=WRONG[path])
    elif path.startswith("size-"):
        answer(result={{"text": "x" * int(path[5:]), "version": "1"}})
    elif path == "error-text":
        answer(error=VALUE)
    elif path == "error-code":
        answer(error={{"code": -32000, "message": "no", "data": {{"code": VALUE}}}})
    elif path == "both":
        answer(result={{"text": VALUE, "version": "1"}}, error={{"code": 1, "message": "no"}})
    elif path == "garbage":
        say("this is no JSON: " + VALUE)
    elif path == "die":
        sys.stderr.write("dying"); os._exit(3)
    elif path == "hang":
        continue
    else:
        answer(result={{"text": VALUE, "version": "1"}})
"""

WRONG = [
    *["array", "string", "number", "null", "empty", "text-number", "text-null", "text-object", "fields-array"],
    *["fields-text", "two", "binary-no-base64", "binary-number", "version-number", "version-object", "created-text"],
    *["error-text", "error-code", "both"],
]


# A plugin that fails again and again is started again within a second, instead of a minute.
_QUICK = "from dso.agent import plugin; plugin.Limits.__new__.__defaults__ = plugin.Limits(longest_backoff=1.0)"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent(before=_QUICK) as running:
        running.install_plugin("odd", _ODD)
        running.write_secrets({"a": {"text": GOOD.text}, "*": {"text": GOOD.text}})
        running.install_plugin("hasty", _ODD)
        odd = "  odd: {type: odd, timeout: 30s}\n  odd-two: {type: odd, timeout: 30s}\n"
        hasty = "  hasty: {type: hasty, timeout: 2s}\n"
        running.write_config(f"providers:\n{running.fake_provider()}{odd}{hasty}")
        running.start()
        yield running


@pytest.fixture(autouse=True)
def unharmed(agent: Agent) -> Iterator[None]:
    since = len(agent.log)
    yield
    assert agent.process.poll() is None, agent.log[-4000:]
    assert agent.value("dso://fake/a") == GOOD.text
    said = agent.log[since:]
    assert "internal" not in said, said[-4000:]
    assert "Traceback" not in said, said[-4000:]
    assert not BAD.find(said.encode()), "a value is in the log"


def outcome(agent: Agent, path: str, provider: str = "odd") -> str:
    """The code for one secret of an odd provider, asked for together with a good one of another."""
    answer = agent.resolve(f"dso://{provider}/{path}", f"dso://fake/{path}")
    assert [one["value"] for one in answer["resolved"] if one["reference"].startswith("dso://fake/")] == [GOOD.text]
    (fault,) = answer["errors"]
    assert fault["provider"] == provider
    assert fault["message"]
    assert not BAD.find(str(fault).encode()), fault
    return str(fault["code"])


def well(agent: Agent, provider: str = "odd") -> None:
    """Wait until the provider works again: it is started anew after what it did."""
    path = f"dso://{provider}/well-"
    wait_until(lambda: not agent.resolve(path + os.urandom(8).hex())["errors"], "its recovery")


@pytest.mark.parametrize("path", WRONG)
def test_an_answer_of_the_wrong_type_is_an_error_of_that_secret(agent: Agent, path: str) -> None:
    assert outcome(agent, path) in PLUGIN_CODES | PROVIDER_CODES
    well(agent)


@pytest.mark.parametrize(
    ("path", "code", "provider"),
    [("garbage", "plugin_garbage", "odd"), ("die", "plugin_crashed", "odd"), ("hang", "plugin_timeout", "hasty")],
)
def test_a_plugin_that_breaks_is_named_and_started_again(agent: Agent, path: str, code: str, provider: str) -> None:
    well(agent, provider)
    assert outcome(agent, path, provider) == code
    well(agent, provider)


def test_a_plugin_that_hangs_delays_its_own_secrets_only(agent: Agent) -> None:
    well(agent, "hasty")
    answers: list[Any] = []
    waiting = [threading.Thread(target=lambda: answers.append(agent.resolve("dso://hasty/hang"))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    well(agent, "odd-two")
    assert agent.value("dso://fake/a") == GOOD.text
    for thread in waiting:
        thread.join()
    assert {fault["code"] for answer in answers for fault in answer["errors"]} == {"plugin_timeout"}
    well(agent, "hasty")


def test_a_value_of_almost_four_mebibytes_is_delivered(agent: Agent) -> None:
    size = MAX_MESSAGE_BYTES - 200
    assert len(agent.value(f"dso://odd/size-{size}")) == size


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES, 20 * MIB])
def test_a_value_beyond_is_an_error_that_says_so(agent: Agent, size: int) -> None:
    assert outcome(agent, f"size-{size}") == "plugin_oversized"
    well(agent)


def test_many_large_values_do_not_stay_in_memory_twice(agent: Agent) -> None:
    """They are kept, that is what a cache is for; everything beside that is given back."""
    sizes = range(MAX_MESSAGE_BYTES - 1000, MAX_MESSAGE_BYTES - 990)
    before = resident([agent.pid])
    for size in sizes:
        assert len(agent.value(f"dso://odd-two/size-{size}")) == size
    assert resident([agent.pid]) - before < len(sizes) * 4 * MIB + 60 * MIB


def test_a_plugin_killed_again_and_again_takes_nobody_with_it(agent: Agent) -> None:
    def plugins() -> list[int]:
        return [one.pid for one in descendants(agent.pid) if any("dso-provider-odd" in word for word in one.argv)]

    codes = set()
    for number in range(10):
        for pid in plugins():
            os.kill(pid, signal.SIGKILL)
        answer = agent.resolve(f"dso://odd/killed-{number}", "dso://fake/a")
        codes |= {fault["code"] for fault in answer["errors"]}
        assert any(one["reference"] == "dso://fake/a" for one in answer["resolved"])
    assert codes <= {"plugin_crashed", "unavailable"}
    well(agent)
    well(agent, "odd-two")
    wait_until(lambda: len(plugins()) == 2, "one process for each provider")
    wait_until(lambda: all(one.argv for one in descendants(agent.pid)), "every plugin is waited for")
