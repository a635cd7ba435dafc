"""`docker dso watch`: what happens at the agent and at the Engine, as it happens."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dso.cli.happenings import Happening, Source

_DESCRIPTION = """\
Show what happens, one line each, until ^C: at the agent (secrets fetched, changed or stale, providers, reloads,
volumes) and at the Engine (containers that DSO gave secrets to, volumes of the agent's). In Local Mode there is no
agent, and only the Engine's events are shown. It goes on when the agent or the Engine is restarted.
"""
_EPILOG = """\
With --format json each line is one object: `time` (seconds since 1970), `source` (agent or engine), `event`,
and `fields`, an object that says to what.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    parser = subparsers.add_parser(
        "watch",
        help="Show live events of the agent and of the Engine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print events until ^C (exit code 130, as `docker events`) or until nobody reads them (141).

    Raises:
        AgentUnavailableError, AgentForbiddenError, ...: at the start the agent does not answer; in Local Mode
            EngineUnreachableError.
    """
    import sys

    from dso.cli.happenings import AgentSource, EngineSource, Happenings
    from dso.cli.output import note, say, warn
    from dso.config.mode import CLOUD, detect_mode

    mode = detect_mode(args.mode, args.config)
    if mode.warning:
        warn(mode.warning)
    sources: list[Source]
    if mode.name == CLOUD:
        agent = AgentSource(mode)
        sources = [agent, EngineSource(args.docker_args, lambda: agent.driver)]
    else:
        note(f"Local Mode ({mode.reason}) has no agent: only the Engine's events are shown")
        sources = [EngineSource(args.docker_args, str)]
    shown = as_json if args.format == "json" else as_line
    for happening in Happenings(sources, note, output=None if sys.stdout is None else 1):
        say(shown(happening), flush=True)
    return 0


def as_line(happening: Happening) -> str:
    """Time, source, event, and `name=value` for each field."""
    import time

    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(happening.time))
    fields = " ".join(f"{name}={_text(value)}" for name, value in happening.fields.items())
    return f"{moment}  {happening.source:6}  {happening.event:22} {fields}".rstrip()


def as_json(happening: Happening) -> str:
    """One object; see the command's help."""
    from dso.system.json_fast import dumps

    return dumps({**happening._asdict(), "fields": dict(happening.fields)})


def _text(value: object) -> str:
    """A field's value: a word as it is, anything else as JSON."""
    from dso.system.json_fast import dumps

    if isinstance(value, list) and all(isinstance(one, str) and _is_word(one) for one in value):
        return ",".join(value)
    return value if isinstance(value, str) and _is_word(value) else dumps(value, ascii_only=False)


def _is_word(text: str) -> bool:
    return bool(text) and text.isprintable() and not any(each in text for each in " \"'=,")
