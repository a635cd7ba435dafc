"""The catalogue of exit codes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from dso import errors

ROOT = Path(__file__).resolve().parents[2]
CLASSES: list[type[errors.DsoError]] = [errors.DsoError, *errors.DsoError.__subclasses__()]
CODES = [errors.DIFFERENCE_FOUND, *(found.code for found in CLASSES)]


def test_every_error_class_has_its_own_code():
    assert [code for code, count in Counter(CODES).items() if count > 1] == []
    assert all("code" in vars(found) and found.__doc__ for found in CLASSES)


def test_codes_keep_clear_of_the_shell_and_of_compose():
    composes_own = {1, *range(14, 19), 130}  # docker/compose: FailureCategory in cmd/compose, and interrupts
    shells = {0, 2, 126, 127, *range(128, 256)}
    taken = composes_own | shells
    assert not taken & set(CODES)


def test_the_published_catalogue_is_up_to_date():
    subprocess.run([sys.executable, str(ROOT / "build" / "exit_codes.py"), "--check"], check=True)
