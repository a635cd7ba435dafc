"""The demo is the README's first command: it has to work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.process import ROOT, environment, run

if TYPE_CHECKING:
    from tests.support.engine import Engine, Images


def test_demo_shows_every_step_and_leaves_nothing_behind(engine: Engine, images: Images) -> None:
    shown = run([os.path.join(ROOT, "demo", "run.sh")], env=environment(extra=engine.env), timeout=170).out
    steps = [line.split(". ")[0] for line in shown.splitlines() if line[:1].isdigit() and ". " in line]
    assert steps == [str(number) for number in range(1, 10)]
    assert "✗" not in shown
    assert shown.count("✓") == 17
    assert engine.leftovers("dso-demo") == []
