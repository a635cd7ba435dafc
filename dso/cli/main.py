"""From argv to an exit code: the only place that prints errors."""

from __future__ import annotations

import sys

from dso.cli.commands import COMPOSE_COMMANDS, load
from dso.cli.invocation import GLOBAL_FLAGS, Invocation, parse_invocation
from dso.cli.output import print_error, show_stderr, tell
from dso.errors import ComposeFailedError, DsoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETION_REQUESTS = ("__complete", "__completeNoDesc")  # from the shell, through Docker
HELP_FLAGS = ("-h", "--help")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str]) -> int:
    """Run one command; `argv` as the process got it, the program's name first. Returns the exit code."""
    debug = "--debug" in argv
    try:
        return _run(parse_invocation(argv[1:]))
    except DsoError as error:
        if debug:
            _print_traceback()
        print_error(error.message, error.hint)
        return error.code
    except ComposeFailedError as failure:
        show_stderr(failure.stderr)
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit as leaving:  # argparse after --help
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:  # noqa: BLE001  # nothing may end in a traceback that shows values
        if debug:
            _print_traceback()
        print_error(
            f"DSO failed in a way it should not: {type(error).__name__}",
            hint="run the same command with --debug and report what it prints (it prints no values)",
        )
        return DsoError.code


def _run(invocation: Invocation) -> int:
    asks_for_help = _asks_for_help(invocation)
    if invocation.command in COMPOSE_COMMANDS and not asks_for_help:
        return int(load(invocation.command).run(invocation))
    if invocation.command in COMPLETION_REQUESTS:
        from dso.cli.cmd_complete import run

        return run(invocation)
    if invocation.command != "help":
        done = _run_plainly(invocation)
        if done is not None:
            return done
    import argparse

    from dso.cli.parser import build_parser

    if invocation.command == "help" and not invocation.words:
        build_parser().print_help()
        return 0
    command, words = invocation.command, ["--help"] if asks_for_help else _take_global_flags(invocation)
    if command == "help":
        command, words = words[0], ["--help"]
    parser = build_parser(only=command)
    options = invocation.options
    namespace = argparse.Namespace(
        docker_args=invocation.docker_args, debug=options.debug, mode=options.mode, config=options.config
    )
    args = parser.parse_args([command, *words], namespace)
    return int(args.run(args))


def _run_plainly(invocation: Invocation) -> int | None:
    """Run a command in a form that is no more than words, if it knows such a form (`run_plain`); None if not.

    That spares argparse, whose import takes as long as all else that a short command does.
    """
    run_plain = getattr(load(invocation.command), "run_plain", None)
    return None if run_plain is None else run_plain(invocation.words)


def _asks_for_help(invocation: Invocation) -> bool:
    """Whether `--help` is about a DSO command; behind `compose` it may be about Compose's (`compose up --help`)."""
    words = invocation.words
    if invocation.command == "compose":
        return not words or words[0] in HELP_FLAGS
    own = words[: words.index("--")] if "--" in words else words
    return invocation.command in COMPOSE_COMMANDS and any(word in HELP_FLAGS for word in own)


def _take_global_flags(invocation: Invocation) -> list[str]:
    """Take the flags every command knows out of the command's words, and return the others."""
    words, index, others = invocation.words, 0, []
    while index < len(words) and words[index] != "--":
        taken = invocation.options.take(words, index, accepted=GLOBAL_FLAGS)
        if not taken:
            others.append(words[index])
        index += taken or 1
    return others + words[index:]


def _print_traceback() -> None:
    """File, line and function of every frame: a full traceback could quote a value in its message."""
    import traceback

    kind, _, trace = sys.exc_info()
    tell("Traceback (values left out):")
    for frame in traceback.extract_tb(trace):
        tell(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
    tell(kind.__name__ if kind else "")
