"""What the page says about other programs is what was measured, and why others were not."""

from __future__ import annotations

import json

import pytest

from tests.bench.cases import secret_value, stack
from tests.bench.goals import Ratio, outcomes
from tests.bench.measure import Case, CommandFailedError, Series, interleave
from tests.bench.peers import part, tools
from tests.bench.peers.install import Peer, reason
from tests.bench.peers.stores import Store


def series(key: str, wall: float) -> Series:
    return Series(key, key, [wall, wall], [])


@pytest.mark.parametrize(("ours", "met"), [(9.9, True), (10.0, False), (10.1, False)])
def test_faster_is_less_time_and_not_the_same(ours: float, met: bool):
    measured = {"ours": series("ours", ours), "theirs": series("theirs", 10)}
    (outcome,) = outcomes(measured, [Ratio("work", "ours", "theirs", 1, below=True)])
    assert outcome.met is met
    assert outcome.goal == "below 1 x"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("go: reading https://proxy.example/x\n\tserver response: not served\n\n", "server response: not served"),
        ("peers.sh: no such module: reading https://proxy.example/x: 403", "no such module: reading 403"),
        ("a | b", "a / b"),
        ("", "it said nothing"),
    ],
)
def test_a_reason_is_one_line_without_addresses(said: str, why: str):
    assert reason(said) == why


def test_each_program_has_a_row_with_its_time_and_how_many_times_that_of_docker_dso():
    measured = {
        f"{work}-{name}": series(name, wall)
        for work, name, wall in (("read", "docker dso", 50), ("read", "pass", 25), ("new", "docker compose", 4000))
    }
    store = Store(Peer("pass", "/nowhere", "1.7"), {}, "/")
    text = part.text(measured, {"pass": "1.7"}, tools.Found({"pass": store}, {"summon": "not served"}))
    assert "| `docker dso` |  | 50 ms |  |  |  |\n" in text
    assert "| pass | 1.7 | 25 ms, 0.50 x |  |  |  |\n" in text
    assert "| plain `docker compose` |  |  |  |  | 4,000 ms |\n" in text
    assert "- summon: not served\n" in text


def test_nothing_is_said_to_be_missing_when_nothing_is():
    assert "Not measured" not in part.text({}, {}, tools.Found({}, {}))


def test_dso_is_held_against_every_program_that_the_goal_names():
    names = ("pass", "gopass", "sops", "dotenvx")
    measured = {f"read-{name}": series(name, 10) for name in ("docker-dso", *names)}
    found = outcomes(measured, part.GOALS)
    assert [each.what.rpartition(" ")[2] for each in found] == list(names)
    assert not any(each.met for each in found)


def test_a_child_that_lacks_a_secret_is_not_measured():
    printed = "".join(f"{name}={value}\n" for name, value in list(tools.secrets(tools.CHILD).items())[1:])
    case = Case("child", "a child", ("/bin/sh", "-c", f"printf '%s' '{printed}'"), {}, "/")
    with pytest.raises(CommandFailedError, match=f"1 of {tools.CHILD} secrets are not in the environment"):
        tools.check_child(case)


def test_the_stack_with_variables_is_the_same_stack():
    literal = json.dumps(stack("image", with_references=False))
    variables = json.dumps(stack("image", with_references=False, with_variables=True))
    for number in range(1, tools.CHILD + 1):
        value, name = secret_value(number), f"SECRET_{number:05d}"
        assert variables.count(name) == max(1, literal.count(value) + literal.count(f"./{name.lower()}.txt"))
        literal = literal.replace(value, f"${{{name}}}").replace(
            f'"file": "./{name.lower()}.txt"', f'"environment": "{name}"'
        )
    assert literal == variables


def test_what_a_command_did_is_undone_each_time_and_before_the_next(tmp_path):
    file = tmp_path / "made"
    case = Case("key", "label", ("/bin/sh", "-c", f"test ! -e {file} && echo >{file}"), {"PATH": "/bin:/usr/bin"}, "/")
    undone = []

    def undo(done: Case) -> None:
        undone.append(done.key)
        file.unlink()

    assert len(interleave([case], 3, lambda _round: None, warm_up=0, after=undo)[0].wall) == 3
    assert undone == ["key"] * 4
