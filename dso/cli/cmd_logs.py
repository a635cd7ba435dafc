"""`docker dso logs`: the agent's log, from the journal or from the agent itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dso.config.mode import Mode
    from dso.protocol.client import AgentClient
    from dso.protocol.stream import LogLine

LEVELS = ("debug", "info", "warning", "error")  # dso.protocol.stream's
DEFAULT_LINES = 100
RETRY = 1.0  # seconds between two tries to reach an agent that is gone
_DESCRIPTION = """\
Show the log of dso-agent: from the journal where systemd runs the agent, else what the agent itself remembers
of it since it started (2000 lines). Secrets' values are in neither. A stack's own log: docker dso compose logs.
"""
_LOCAL = "of the stack itself: docker dso compose logs"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    parser = subparsers.add_parser(
        "logs",
        help="Show the agent's log",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, which `docker dso system logs` has too."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until ^C")
    parser.add_argument(
        "-n",
        "--lines",
        metavar="N",
        help=f"the last N lines, or `all` (default: {DEFAULT_LINES}; with --since all)",
    )
    parser.add_argument("--since", metavar="TIME", help="only what is newer: 10m, 2h, 3d, or an ISO date or time")
    parser.add_argument("--level", choices=LEVELS, default="debug", help="only lines of this level and graver ones")


def run(args: argparse.Namespace) -> int:
    """Show the log: each line with time, level and message; the journal's in its own format, `short-iso`.

    Raises:
        UsageError: a flag makes no sense, or it is Local Mode.
        AgentUnavailableError, AgentForbiddenError, ...: the log is the agent's, and it does not answer.
    """
    import time

    from dso import paths
    from dso.cli import journal
    from dso.cli.cloud import cloud_mode
    from dso.cli.output import note, say
    from dso.cli.project_config import agent_socket
    from dso.cli.since import parse_since

    since = None if args.since is None else parse_since(args.since, time.time())
    lines = _lines(args.lines, all_by_default=since is not None)
    mode = cloud_mode(args, _LOCAL)
    if journal.is_agents(paths.find_agent_socket(agent_socket(mode))):
        if journal.is_readable():
            from dso.system.proc import attach

            return attach(journal.command(follow=args.follow, lines=lines, since=since, level=args.level))
        note(
            "this user may not read the journal (groups systemd-journal and adm may): what follows is what the "
            "agent remembers since it started"
        )
    for line in _agents_lines(mode, args, lines, since):
        say(shown(line), flush=args.follow)
    return 0


def _lines(text: str | None, *, all_by_default: bool) -> int | None:
    """How many lines; None: all."""
    from dso.errors import UsageError

    if text is None:
        return None if all_by_default else DEFAULT_LINES
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004
        raise UsageError(f"--lines takes a number or `all`, not {text!r}")
    return int(text)


def _agents_lines(mode: Mode, args: argparse.Namespace, lines: int | None, since: float | None) -> Iterator[LogLine]:
    """What the agent remembers; with --follow also what it says from now on, over its restarts."""
    from dso.cli.output import note
    from dso.cli.project_config import connect
    from dso.errors import AgentUnavailableError

    agent = connect(mode)
    while True:
        try:
            for line in _read(agent, _target(args, lines, since), follow=args.follow):
                since, lines = line.time + 0.001, None  # where to go on with another connection
                yield line
        except AgentUnavailableError:
            if not args.follow:
                raise
        if not args.follow:
            return
        note(f"the agent at {agent.path} is gone; waiting for it")
        agent = _reconnected(mode)
        note(f"the agent at {agent.path} answers again")


def _read(agent: AgentClient, target: str, *, follow: bool) -> Iterator[LogLine]:
    from dso.errors import AgentProtocolError
    from dso.protocol.client import TIMEOUT
    from dso.protocol.reading import MessageError
    from dso.protocol.stream import LogLine

    for text in agent.stream(target, timeout=None if follow else TIMEOUT):
        if text:
            try:
                yield LogLine.from_text(text)
            except MessageError as error:
                raise AgentProtocolError(f"the agent's log is not what the API says: {error}") from None


def _target(args: argparse.Namespace, lines: int | None, since: float | None) -> str:
    from dso.protocol.agent import LOGS

    query = [f"level={args.level}"]
    if lines is not None:
        query.append(f"lines={lines}")
    if since is not None:
        query.append(f"since={since:.3f}")
    if args.follow:
        query.append("follow=1")
    return f"{LOGS}?{'&'.join(query)}"


def _reconnected(mode: Mode) -> AgentClient:
    from time import sleep

    from dso.cli.project_config import connect
    from dso.errors import AgentUnavailableError

    while True:
        sleep(RETRY)
        try:
            return connect(mode)
        except AgentUnavailableError:
            continue


def shown(line: LogLine) -> str:
    """A line as it is printed: local time as the journal's `short-iso` has it, level, message."""
    import time

    when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(line.time))
    return f"{when} {line.level.upper():7} {line.message}"
