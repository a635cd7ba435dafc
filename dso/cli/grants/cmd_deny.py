"""`docker dso deny`: take grants away from a directory."""

from __future__ import annotations

import os

from dso.cli.output import note, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dso.grants.names import Named

_DESCRIPTION = """\
Take namespaces and secrets away from the project in the current directory, or, with nothing named, all that was granted
to it. What runs keeps what it has: `docker dso down` ends that."""
_EPILOG = """\
examples:
  docker dso deny shop
  docker dso deny --directory /srv/old      everything; the directory may be gone
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    from dso.cli.grants.cmd_allow import NAMES

    parser = subparsers.add_parser(
        "deny",
        help="Take secrets away from the project in a directory",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar=NAMES, help="what to take away (default: everything)")
    parser.add_argument("--directory", metavar="DIR", help="do it for DIR instead of the current directory")
    parser.add_argument("--configuration", action="store_true", help="what dso.yaml there was allowed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Take grants away; none that is there to take is no error."""
    from dso.cli.grants.wording import one_line
    from dso.grants.names import parse_names
    from dso.grants.store import Grants, revoke

    named = parse_names(args.names)
    everything = not args.names and not args.configuration
    directory = os.path.realpath(args.directory or os.getcwd())
    before = Grants.load().of(directory)
    after = revoke(
        directory,
        namespaces=named.namespaces,
        secrets=named.secrets,
        configuration=args.configuration,
        everything=everything,
    )
    has = [*after.namespaces, *after.secrets, *(["its dso.yaml"] if after.configuration else [])]
    shown = one_line(directory)
    if after == before:
        note(f"{shown} was not granted {'that' if not everything else 'anything'}")
    else:
        note(f"{shown} may have: {', '.join(has)}" if has else f"{shown} has no grant any more")
    _warn_of_others(directory, named, everything=everything)
    return 0


def _warn_of_others(directory: str, named: Named, *, everything: bool) -> None:
    """Say what the directory still has by grants to directories above it, or to a namespace as a whole."""
    from dso.grants.coverage import ancestry
    from dso.grants.store import Grants

    grants = Grants.load()
    left = grants.at(directory)
    for each in ancestry(directory):
        found = grants.of(each)
        still = [
            name
            for name in (*found.namespaces, *found.secrets)
            if everything
            or name in named.namespaces
            or any(wanted == name or wanted.startswith(name + "/") for wanted in named.secrets)
        ]
        if still and any(name in left.namespaces or name in left.secrets for name in still):
            warn(f"it still has {', '.join(still)}, by the grant to {each}")
