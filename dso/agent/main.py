"""The command line of `dso-agent`: the only place of the agent that prints errors and decides the exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from dso import paths
from dso.agent.daemon import Agent, Options, Places, harden
from dso.agent.envfile import missing_variables
from dso.agent.logbook import Logbook, where
from dso.config.load import load_config
from dso.errors import DsoError, NotConfiguredError
from dso.protocol.stream import LEVELS
from dso.system import systemd
from dso.system.visible import error_text
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.config.model import CloudConfig

FORMATS = ("text", "json")
_EPILOG = """\
Signals: SIGHUP reads the configuration again, SIGTERM and SIGINT end the agent after what is under way.
A faulty new configuration leaves the former one in force. Exit codes: docs/exit-codes.md.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "dso-agent",
        description="Serves secrets of HashiCorp Vault, AWS, Azure, Huawei Cloud and others to `docker dso` and to\n"
        "the Docker Engine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"configuration (default: {paths.SYSTEM_CONFIG}; for other users than root ~/.config/dso/dso.yaml)",
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help=f"where to listen (default: ${paths.SOCKET_VARIABLE}, `agent.socket`, {paths.SYSTEM_SOCKET}; "
        "for other users $XDG_RUNTIME_DIR/dso.sock)",
    )
    parser.add_argument(
        "--plugin-dir",
        metavar="DIR",
        help=f"where the providers' plugins are (default: ${paths.PLUGIN_DIR_VARIABLE}, `agent.plugin_dir`, "
        f"{paths.SYSTEM_PLUGIN_DIR})",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check the configuration and every provider, then exit; "
        f"for {paths.SYSTEM_CONFIG} with the variables of {paths.SYSTEM_ENVIRONMENT} that are not set",
    )
    parser.add_argument("--log-level", choices=LEVELS, help="what to log (default: `agent.log_level`, info)")
    parser.add_argument("--log-format", choices=FORMATS, help="how to log it (default: `agent.log_format`, text)")
    parser.add_argument("--version", action="version", version=f"dso-agent {VERSION}")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the agent, or `--check`; `argv` as the process got it. Returns the exit code."""
    try:
        return _run(argv)
    except DsoError as error:
        systemd.notify(f"STATUS={error.message}")
        _print_error(error.message, error.hint)
        return error.code
    except SystemExit as leaving:  # argparse; its code for a faulty command line is 2, ours is Docker's
        return 125 if leaving.code == 2 else 0  # noqa: PLR2004
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # nothing may end in a traceback that shows values
        _print_error(f"dso-agent failed in a way it should not: {where(error)}", "please report it")
        return DsoError.code


def _run(argv: Sequence[str]) -> int:
    args = build_parser().parse_args(argv[1:])
    faults = harden()
    path = os.path.abspath(args.config) if args.config else _default_config()
    if args.check and os.geteuid() == 0 and path == paths.SYSTEM_CONFIG:
        os.environ.update(missing_variables(paths.SYSTEM_ENVIRONMENT, os.environ))  # plugins get theirs from there too
    options = Options(
        path,
        args.socket or os.environ.get(paths.SOCKET_VARIABLE) or None,
        args.plugin_dir or os.environ.get(paths.PLUGIN_DIR_VARIABLE) or None,
        args.log_level,
        args.log_format,
    )
    config = load_config(options.config, environment=os.environ)
    level, form = options.log_level or config.agent.log_level, options.log_format or config.agent.log_format
    if args.check:
        from dso.agent.check import check

        return asyncio.run(check(config, Places.of(options, config).plugin_dir, Logbook(level="error", form=form)))
    book = Logbook(level=level, form=form)
    book.info(f"dso-agent {VERSION} starts with {options.config}", pid=os.getpid(), uid=os.geteuid())
    for fault in faults:
        book.warning(fault)
    # Not asyncio.run, which would wait for threads at the end: one may hang in a user database that does not answer.
    asyncio.new_event_loop().run_until_complete(_serve(options, config, book))
    return 0


async def _serve(options: Options, config: CloudConfig, book: Logbook) -> None:
    await Agent(options, config, book).run()


def _default_config() -> str:
    """The configuration when none is named: the system's for root, else the user's own."""
    if os.geteuid() == 0:
        return paths.SYSTEM_CONFIG
    directory = os.environ.get("XDG_CONFIG_HOME") or paths.home() + "/.config"
    path = f"{directory}/dso/dso.yaml"
    if not os.path.exists(path):
        raise NotConfiguredError(
            f"no configuration: there is no {path}",
            hint="name one: `dso-agent --config ./dso.yaml`; only root's agent reads /etc/dso/dso.yaml by itself",
        )
    return path


def _print_error(message: str, hint: str) -> None:
    print(error_text(message, hint), file=sys.stderr)
