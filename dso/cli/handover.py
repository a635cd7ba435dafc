"""Handing a stack to Compose: the one path of `up`, `down` and `compose`, from words to exit code."""

from __future__ import annotations

import os

from dso.cli.output import note, warn
from dso.compose.command import ComposeCommand, parse_command
from dso.compose.files import ProjectFiles, find_files, project_variables, reads_stdin
from dso.compose.model import compose_of, finish_reading, needs_remote_files, start_reading
from dso.errors import ComposeFailedError, ReferencePlaceError
from dso.system.proc import attach, docker_command, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.cli.backend import Backend
    from dso.cli.invocation import Invocation, Options
    from dso.cli.stack import Stack
    from dso.compose.model import Model
    from dso.compose.plugin import Compose
    from dso.config.mode import Mode
    from dso.delivery.engine import Engine
    from dso.system.proc import Running

_MAX_STDIN = 16 * 1024 * 1024  # of a Compose file
UP_FLAGS = frozenset({"--mode", "-c", "--config", "--debug", "--dry-run", "--format"})


def run_compose(invocation: Invocation, name: str | None = None) -> int:
    """Run one Compose command line; `name` is the subcommand when the user did not write it.

    A command that brings containers up gets the stack's secrets, every other one only the user's
    own words. Returns Compose's exit code.
    """
    call = ComposeCall(invocation, name)
    if not call.command.brings_up:
        if invocation.options.dry_run:
            call.insert_compose_dry_run()
        return call.pass_through()
    if invocation.options.dry_run:
        from dso.cli.dry_run import print_plan

        return print_plan(call.read_stack(), invocation.options.format)
    return call.bring_up()


class ComposeCall:
    """One Compose command line, with what is needed to run it: `docker`, its flags, and standard input."""

    def __init__(self, invocation: Invocation, name: str | None = None) -> None:
        """Take the words apart; `name` is the subcommand when it is not among them."""
        self.options: Options = invocation.options
        self.docker = [docker_command(), *invocation.docker_args]
        self.docker_args = invocation.docker_args
        self.command: ComposeCommand = parse_command(
            invocation.words, self._take_own, name=name, describe=self._describe
        )
        self._backend: Backend | None = None
        self._files: ProjectFiles | None = None
        self._compose: Compose | None = None  # what the model was read with
        self._stdin: int | None = None
        if reads_stdin(self.command):
            self._keep_stdin()

    def _take_own(self, words: Sequence[str], index: int) -> int:
        return self.options.take(words, index, accepted=UP_FLAGS)

    def _describe(self, name: str) -> str:
        return run([*self.docker, "compose", name, "--help"]).stdout.decode("utf-8", "replace")

    def _keep_stdin(self) -> None:
        """`-f -` is read twice, by `config` and by the command itself: keep it in memory."""
        from dso.system.files import read_input
        from dso.system.memory import memory_file

        self._stdin = memory_file("compose-stdin", read_input(_MAX_STDIN))

    def _rewound_stdin(self) -> int | None:
        if self._stdin is not None:
            os.lseek(self._stdin, 0, os.SEEK_SET)
        return self._stdin

    def insert_compose_dry_run(self) -> None:
        """`--dry-run` is Compose's own where DSO has no plan to show."""
        command = self.command
        self.command = ComposeCommand(
            command.name, ("--dry-run", *command.globals), command.arguments, command.services
        )

    def trace(self, message: str) -> None:
        """Say what is done, with --debug."""
        if self.options.debug:
            note(f"debug: {message}")

    def pass_through(self) -> int:
        """Run Compose with the user's own words; afterwards remove what no running container needs."""
        if self.command.name == "build":
            self._refuse_references_in_builds()
        may_end = self.command.may_end_project and not self.options.dry_run
        project = self.project_name() if may_end else None
        code = attach([*self.docker, "compose", *self.command.words()], stdin=self._rewound_stdin())
        if may_end:
            self.clean_up(project, remove_volumes=self.command.name == "down")
        return code

    def _refuse_references_in_builds(self) -> None:
        """A build argument with a reference would end up in the image as it is."""
        from dso.compose.references import collect

        collect(self._read_without_services())

    def project_name(self) -> str | None:
        """The project's name as Compose derives it; None when Compose cannot tell (it will say why itself)."""
        try:
            return self._read_without_services().project
        except ComposeFailedError:
            given = self.command.global_values("-p", "--project-name")
            return given[-1] if given else os.environ.get("COMPOSE_PROJECT_NAME")

    def _read_without_services(self) -> Model:
        command = ComposeCommand(self.command.name, self.command.globals, (), ())
        compose = compose_of(self.docker, only_local=False)
        return self._finish(start_reading(compose, command, self._rewound_stdin()))

    def _finish(self, running: Running) -> Model:
        self.trace("read the Compose model")
        return finish_reading(running, self.command)

    def detect_mode(self) -> Mode:
        """Choose the mode and announce it.

        Raises:
            NotConfiguredError: there is none to choose.
        """
        from dso.config.mode import detect_mode

        mode = detect_mode(self.options.mode, self.options.config)
        note(mode.announcement())
        if mode.warning:
            warn(mode.warning)
        return mode

    def read_stack(self) -> Stack:
        """Read the model, open the vault or ask the agent meanwhile, and resolve every reference.

        Raises:
            ComposeFailedError: Compose refuses the files.
            DsoError: no mode, no vault or agent, or references that cannot be resolved.
        """
        mode = self.detect_mode()
        self._refuse_references_in_words()
        files = find_files(self.command)
        reading = self._start_reading(files, only_local=mode.grants)
        # While Compose reads its files: everything that is needed after it.
        import signal  # noqa: F401

        from dso.cli.backend import backend_of
        from dso.cli.stack import resolve_stack

        try:
            backend = self._backend = backend_of(mode, self.docker_args, warn, self.trace)
            self.trace(backend.open())
        except KeyboardInterrupt:
            reading.stop()  # ^C has ended it, and what `Running.wait` would start in its place nobody wants
            raise
        except BaseException:
            self._finish_reading(reading, files)  # what Compose has to say of its files comes first
            raise
        model, files = self._finish_reading(reading, files)
        self._files = files
        return resolve_stack(
            model,
            backend.resolver(model, files),
            variables=lambda: project_variables(self.command),
            complete=backend.complete,
        )

    def read_model(self) -> tuple[Model, ProjectFiles]:
        """The model without its secrets, and where its files are; raises ComposeFailedError."""
        files = find_files(self.command)
        return self._finish_reading(self._start_reading(files, only_local=True), files)

    def _start_reading(self, files: ProjectFiles, *, only_local: bool) -> Running:
        """Read the files that were found; with `only_local` it fails if more have to be fetched from elsewhere."""
        self._compose = compose_of(self.docker, only_local=only_local and not files.remote)
        return start_reading(self._compose, self.command, self._rewound_stdin(), flags=files.flags)

    def _finish_reading(self, reading: Running, files: ProjectFiles) -> tuple[Model, ProjectFiles]:
        """The model, with files fetched after all where it needs some, which is then marked."""
        try:
            return self._finish(reading), files
        except ComposeFailedError as error:
            if files.remote or not needs_remote_files(error):
                raise
        files = files._replace(remote=True)
        return self._finish(self._start_reading(files, only_local=False)), files

    def _refuse_references_in_words(self) -> None:
        """A value may not be put where `ps` shows it, and a reference may not pass for a value."""
        from dso.compose.template import mentions_reference

        for word in self.command.own_arguments:
            if mentions_reference(word):
                raise ReferencePlaceError(
                    f"a reference on the command line: {word[:80]!r}",
                    hint="write it into the Compose file's `environment:`, or into an override file given with -f",
                )

    def bring_up(self) -> int:
        """Deliver the stack's secrets and run Compose with the override on top of the user's files."""
        stack = self.read_stack()
        self._note_visible(stack)
        if not stack.services:
            return self._attach_and_clean_up(stack, [])
        from dso.system.memory import memory_file

        override = memory_file("dso-override.yaml", stack.override())
        flags = [*(self._files or find_files(self.command)).flags, "-f", f"/proc/{os.getpid()}/fd/{override}"]
        return self._attach_and_clean_up(stack, flags)

    def _attach_and_clean_up(self, stack: Stack, flags: Sequence[str]) -> int:
        from dso.delivery import keeper
        from dso.delivery.borrowed import refuse_borrowed
        from dso.delivery.engine import Engine

        backend, compose = self._backend, self._compose
        assert backend is not None  # noqa: S101  # read_stack made both
        assert compose is not None  # noqa: S101
        engine = Engine.from_docker_args(self.docker_args)
        try:
            with keeper.in_use(engine, stack.project):
                refuse_borrowed(engine, stack.model.document)
                backend.deliver(engine, stack)
                self.trace(f"delivered file secrets in {engine.requests} Engine requests")
                if self.command.name == "restart":
                    self._note_unapplied(engine, stack)
                engine.close()
                return compose.attach(self.command.words(*flags), stdin=self._rewound_stdin())
        finally:  # whatever happened: secrets that no container uses do not stay in memory
            self.clean_up(stack.project, vault_id=backend.vault_id)

    def _note_unapplied(self, engine: Engine, stack: Stack) -> None:
        """`restart` keeps containers as they are: files are new, variables are not."""
        from dso.cli.changes import compare_with_running

        for change in compare_with_running(engine, stack):
            if change.environment and change.change == "re-create":
                names = ", ".join(change.environment)
                warn(f"{change.service}: a restart keeps the old {names}; `docker dso up` gives it the new one")

    def clean_up(self, project: str | None, *, vault_id: str | None = None, remove_volumes: bool = False) -> None:
        """Remove the project's keeper if nothing of it runs, and keepers others have left behind."""
        from signal import SIG_IGN, SIGINT, signal

        from dso.delivery import keeper
        from dso.delivery.engine import Engine
        from dso.errors import DsoError, EngineUnreachableError

        interrupt = signal(SIGINT, SIG_IGN)  # an impatient ^C must not leave a keeper behind
        try:
            engine = Engine.from_docker_args(self.docker_args)
            released = False
            try:
                released = not project or keeper.release(engine, project, remove_volumes=remove_volumes)
            finally:  # what is odd about this project does not save others' secrets
                keeper.sweep(engine, vault_id=vault_id, spared=None if released else project)
        except EngineUnreachableError:
            pass  # whoever needed it before has said so
        except (DsoError, OSError) as error:  # Compose has done its part: its exit code counts
            warn(f"file secrets may be left in memory: {error}")
        finally:
            signal(SIGINT, interrupt)

    def _note_visible(self, stack: Stack) -> None:
        """Say, once, what an environment variable cannot hide."""
        visible = stack.environment_secrets()
        if visible:
            names = "; ".join(f"{service}: {', '.join(variables)}" for service, variables in visible.items())
            note(f"visible to whoever may run `docker inspect`, and kept by the Engine on its disk: {names}")
            note("use dsofile:// for what must not be")
