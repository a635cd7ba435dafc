"""The same 20 services with the same 50 secrets, brought up by DSO and by the others."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.cases import home_with_secrets, stack
from tests.bench.measure import Case, CommandFailedError, interleave
from tests.bench.stack import literal_stack
from tests.support.engine import Engine, Images
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from tests.bench.cases import Tools
    from tests.bench.measure import Series
    from tests.bench.part import Setting
    from tests.bench.peers.stores import Store

UP = ("docker", "compose", "up", "-d")
AGAIN_ROUNDS = 10
NEW_ROUNDS = 3


class Stacks(NamedTuple):
    """Three projects: with literal values, with references, and with variables for programs that set those."""

    tools: Tools
    literal: Project
    referring: Project
    variables: Project

    @classmethod
    def made(cls, setting: Setting, cleanup: ExitStack) -> Stacks:
        """The projects' files; nothing runs yet. All is removed in the end."""
        home = home_with_secrets(os.path.join(setting.scratch, "home-stacks"), 100)
        engine = Engine.of_the_tester()
        home.env.update(engine.env)
        names = [f"dsopeers{kind}{os.getpid()}" for kind in ("literal", "dso", "variables")]
        projects = [Project(os.path.join(setting.scratch, name), home, engine) for name in names]
        for project in projects:
            cleanup.callback(project.remove)
        literal, referring, variables = projects
        cleanup.callback(referring.dso, "down", "-v", check=False)
        image = Images().busybox
        literal_stack(literal, image)
        referring.compose_yaml(json.dumps(stack(image, with_references=True), indent=2))
        variables.compose_yaml(json.dumps(stack(image, with_references=False, with_variables=True), indent=2))
        return cls(setting.tools, *projects)

    def containers(self) -> tuple[list[str], ...]:
        """Those of all projects, DSO's own included."""
        return (
            self.literal.containers(),
            self.referring.containers(),
            self.referring.keepers(),
            self.variables.containers(),
        )

    def cases(self, work: str, found: Mapping[str, Store]) -> list[Case]:
        """`up` with each program; the keys begin with `work`."""
        env = self.referring.home.environment()
        docker = self.tools.docker
        cases = [
            Case(
                f"{work}-docker dso",
                f"`docker dso up -d` ({_NAMES[work]})",
                (docker, "dso", "up", "-d"),
                env,
                self.referring.directory,
            ),
            Case(
                f"{work}-docker compose",
                f"`docker compose up -d` ({_NAMES[work]})",
                (docker, *UP[1:]),
                env,
                self.literal.directory,
            ),
        ]
        for name, store in found.items():
            if store.child:
                command = store.child(UP)
                label = f"`{command.label} docker compose up -d` ({_NAMES[work]})"
                cases.append(
                    Case(f"{work}-{name}", label, command.argv, {**store.env, **env}, self.variables.directory)
                )
        return cases

    def down(self, case: Case) -> None:
        """Remove what a case has started."""
        dso = case.cwd == self.referring.directory
        project = self.referring if dso else self.literal if case.cwd == self.literal.directory else self.variables
        (project.dso if dso else project.compose)("down", "-v", "-t", "0")


_NAMES = {"again": "20 services, nothing to change", "new": "20 services, from nothing"}


def measure(stacks: Stacks, found: Mapping[str, Store], setting: Setting) -> list[Series]:
    """From nothing in a few rounds, then with nothing to change."""
    rounds = min(setting.rounds or NEW_ROUNDS, NEW_ROUNDS)
    progress: Callable[[int], None] = setting.progress("stacks from nothing", rounds)
    series = interleave(stacks.cases("new", found), rounds, progress, warm_up=0, after=stacks.down)
    rounds = setting.rounds or AGAIN_ROUNDS
    cases = stacks.cases("again", found)
    interleave(cases, 0, lambda _round: None, warm_up=1)  # they start now
    before = stacks.containers()
    series += interleave(cases, rounds, setting.progress("stacks with nothing to change", rounds))
    if stacks.containers() != before:
        raise CommandFailedError("`up` was to find nothing to change, but it did create containers")
    return series
