"""`docker dso allow`: let the project in a directory have namespaces and secrets of the vault."""

from __future__ import annotations

import os

from dso.cli.output import note, tell, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from dso.cli.handover import ComposeCall
    from dso.grants.store import Grant

_DESCRIPTION = """\
Let the project in the current directory, and below it, have namespaces of the vault, or single secrets. Secrets
without a namespace are granted one by one: global/NAME. With nothing named, show what the Compose files here ask for,
and ask whether they may have it. Nobody but you may be able to write to the directory. For Local Mode; in Cloud
Mode `access:` in dso.yaml says who may read what."""
_EPILOG = """\
examples:
  docker dso allow                          show what the project here asks for, then grant it
  docker dso allow shop global/stripe_key   all of namespace shop, and one secret
  docker dso allow --directory /srv/shop shop
  docker dso allow --list

A project that was granted nothing gets nothing: `up` asks on a terminal, and fails without one. In CI, the environment
variable DSO_ALLOW=shop,global/stripe_key (or *) allows it to every project of that job; a .env file cannot set it.
"""
NAMES = "NAMESPACE|NAMESPACE/NAME"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    parser = subparsers.add_parser(
        "allow",
        help="Let the project in a directory have secrets",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar=NAMES, help="what to grant (default: what is asked for)")
    add_directory(parser)
    parser.add_argument(
        "--configuration", action="store_true", help="let dso.yaml there choose the agent's socket and take variables"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="grant what is asked for without a question")
    for flag, metavar in (("--file", "FILE"), ("--env-file", "FILE"), ("--profile", "PROFILE")):
        short = ["-f"] if flag == "--file" else []
        text = "as for `up`, to look for what is asked for"
        parser.add_argument(*short, flag, action="append", default=[], metavar=metavar, help=text)
    parser.add_argument("--project-directory", metavar="DIR", help="as for `up`")
    parser.add_argument("--list", action="store_true", help="list all grants")
    parser.add_argument("--format", choices=("table", "json"), help="of the list (default: table)")
    parser.set_defaults(run=run)


def add_directory(parser: argparse.ArgumentParser) -> None:
    """`--directory`, which `allow` and `deny` have."""
    parser.add_argument("--directory", metavar="DIR", help="do it in DIR instead of the current directory")


def run(args: argparse.Namespace) -> int:
    """Grant what is named or asked for, or list what is granted.

    Raises:
        UsageError: a word is not a name, flags contradict each other, or nobody can be asked.
        NotGrantedError: the user does not agree, or others can put files into the directory.
    """
    from dso.errors import UsageError

    if args.list:
        from dso.cli.grants.listing import print_grants

        if args.names:
            raise UsageError("--list takes no names", hint="it lists the grants of every directory")
        return print_grants(args.format or "table")
    if args.format:
        raise UsageError("--format goes with --list", hint="docker dso allow --list --format json")
    enter_directory(args.directory)
    if args.names or args.configuration:
        from dso.grants.names import parse_names
        from dso.grants.store import grant

        named = parse_names(args.names)
        wanted = _configuration_to_grant() if args.configuration else []
        directory = os.getcwd()
        before = _before(directory)
        after = grant(directory, namespaces=named.namespaces, secrets=named.secrets, configuration=args.configuration)
        _say(before, after)
        if wanted:
            from dso.cli.grants.wording import bullets

            note(f"its dso.yaml asks for more than secrets:{bullets(wanted)}")
        return 0
    return _grant_what_is_asked_for(args)


def enter_directory(directory: str | None) -> None:
    """Go where `--directory` says."""
    if directory is None:
        return
    try:
        os.chdir(directory)
    except OSError as error:
        from dso.errors import FileAccessError
        from dso.system.files import reason

        raise FileAccessError(f"cannot enter {directory}: {reason(error)}") from error


def _before(directory: str) -> Grant:
    from dso.grants.store import Grants

    return Grants.load().of(os.path.realpath(directory))


def _say(before: Grant, after: Grant) -> None:
    from dso import paths
    from dso.cli.grants.wording import one_line
    from dso.grants.coverage import ancestry

    has = [*after.namespaces, *after.secrets, *(["its dso.yaml"] if after.configuration else [])]
    news = "" if after != before else " (it had that already)"
    note(f"{one_line(after.directory)} may have: {', '.join(has)}{news}")
    if after.directory in ancestry(os.path.realpath(paths.home())):
        warn("this is your home directory, or above it: the grant is for the project there, not for what is below")


def _grant_what_is_asked_for(args: argparse.Namespace) -> int:
    from dso import paths
    from dso.compose.files import find_files
    from dso.errors import UsageError

    call = _call(args)
    configuration = _configuration_to_grant()
    if os.path.exists(paths.vault_file()) and (find_files(call.command).directories or not configuration):
        _grant_secrets(call, _asker(yes=args.yes))
    elif not configuration:
        raise UsageError(
            "there is no vault, so no secret can be granted",
            hint="in Cloud Mode, `access:` in dso.yaml says who may read what",
        )
    if configuration:
        _grant_configuration(configuration, _asker(yes=args.yes))
    return 0


def _call(args: argparse.Namespace) -> ComposeCall:
    """`up` with the flags given, as far as reading its files goes."""
    from dso.cli.handover import ComposeCall
    from dso.cli.invocation import Invocation, Options

    words = [word for flag in ("file", "env_file", "profile") for value in getattr(args, flag)
             for word in (f"--{flag.replace('_', '-')}", value)]  # fmt: skip
    if args.project_directory:
        words += ["--project-directory", args.project_directory]
    return ComposeCall(Invocation(args.docker_args, Options(), "up", words), "up")


def _grant_secrets(call: ComposeCall, ask: Callable[[str], bool]) -> None:
    from dso.cli.grants.gate import ProjectGate
    from dso.cli.stack import requests_of
    from dso.compose.references import collect
    from dso.errors import UsageError
    from dso.vault.resolver import LocalResolver
    from dso.vault.store import Vault

    vault = Vault.open()
    model, files = call.read_model()
    if files.remote:
        raise UsageError(
            "files that are fetched from elsewhere have no directory that could be granted",
            hint="`docker dso up` asks on the terminal each time; for CI there is DSO_ALLOW",
        )
    gate = ProjectGate(model.project, files, environment={}, ask=ask, may_tell=True)
    requests, _ = requests_of(collect(model))
    wishes = LocalResolver(vault, model.project, gate).wishes(requests)
    if not wishes:
        note(f"project {model.project} asks for nothing that it may not have already")
        return
    gate.admit(wishes)
    for directory in files.directories:
        after = _before(directory)
        _say(after._replace(directory=""), after)


def _configuration_to_grant() -> list[str]:
    """What a dso.yaml that lies here wants besides names of secrets, in words, and was not allowed yet."""
    from dso import paths
    from dso.cli.project_trust import described, wishes_of
    from dso.grants.store import Grants

    if not os.path.exists(paths.PROJECT_CONFIG) or Grants.load().at(os.getcwd()).configuration:
        return []
    return described(wishes_of(paths.PROJECT_CONFIG))


def _grant_configuration(wanted: list[str], ask: Callable[[str], bool]) -> None:
    from dso.cli.grants.wording import bullets, one_line
    from dso.errors import NotGrantedError
    from dso.grants.store import grant

    directory = os.getcwd()
    text = f"[DSO] dso.yaml in {one_line(directory)} asks for more than secrets:{bullets(wanted)}"
    if not ask(f"{text}\nLet it, now and from now on?"):
        raise NotGrantedError("nothing was granted")
    before = _before(directory)
    _say(before, grant(directory, configuration=True))


def _asker(*, yes: bool) -> Callable[[str], bool]:
    """Puts the question, or with `--yes` only shows it."""

    def show(text: str) -> bool:
        for line in _without_question(text).split("\n"):
            tell(line)
        return True

    def ask(text: str) -> bool:
        from dso.errors import UsageError
        from dso.system.terminal import agreed

        answer = agreed(text)
        if answer is None:
            raise UsageError(
                _without_question(text).removeprefix("[DSO] ") + "\n  (and there is no terminal to ask whether it may)",
                hint="--yes grants all of that; or name what to grant: docker dso allow NAMESPACE...",
            )
        return answer

    return show if yes else ask


def _without_question(text: str) -> str:
    lines, newline, question = text.rpartition("\n")
    return lines if newline else question
