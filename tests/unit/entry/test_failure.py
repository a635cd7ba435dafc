"""How a program ends of what nothing deals with, in a process of its own."""

from __future__ import annotations

import pytest

from tests.support.process import PYTHON, ROOT, Result, run

CANARY = "canary"
START = f"""
import sys, threading
sys.path.insert(0, {ROOT!r})
from dso.entry import failure
sys.excepthook, sys.unraisablehook, threading.excepthook = failure.end, failure.ignored, failure.ignored
"""
IN_A_DESTRUCTOR = """
class Thing:
    def __del__(self):
        raise {error}
Thing()
print("went on")
"""


def ended(code: str) -> Result:
    return run([PYTHON, "-I", "-S", "-c", START + code], check=False)


def test_a_defect_is_told_by_its_class_alone() -> None:
    done = ended(f"raise ValueError({CANARY!r})")
    assert (done.returncode, done.out, done.err) == (70, "", "Error: DSO failed in a way it should not: ValueError\n")


def test_an_error_of_ours_is_told_with_its_code() -> None:
    done = ended("from dso.errors import VaultBusyError\nraise VaultBusyError('it is locked', 'wait\\nor do not')")
    assert (done.returncode, done.err) == (56, "Error: it is locked\n  hint: wait\n  hint: or do not\n")


def test_an_interrupt_is_quiet() -> None:
    done = ended("raise KeyboardInterrupt")
    assert (done.returncode, done.err) == (130, "")


def test_nobody_to_tell_does_not_matter() -> None:
    done = ended("import os\nos.close(2)\nraise ValueError")
    assert (done.returncode, done.err) == (70, "")


def test_in_a_destructor_a_defect_is_told_and_ends_nothing() -> None:
    done = ended(IN_A_DESTRUCTOR.format(error=f"ValueError({CANARY!r})"))
    assert (done.returncode, done.out) == (0, "went on\n")
    assert done.err == "Error: DSO failed in a way it should not: ValueError\n"


def test_in_a_destructor_an_interrupt_is_not_lost() -> None:
    done = ended(IN_A_DESTRUCTOR.format(error="KeyboardInterrupt"))
    assert (done.returncode, done.out, done.err) == (130, "", "")


@pytest.mark.parametrize("error", ["ValueError", "OSError"])
def test_in_a_thread_a_defect_is_told_by_its_class_alone(error: str) -> None:
    done = ended(
        f"def f():\n    raise {error}({CANARY!r})\nthread = threading.Thread(target=f)\nthread.start()\nthread.join()"
    )
    assert (done.returncode, done.err) == (0, f"Error: DSO failed in a way it should not: {error}\n")
