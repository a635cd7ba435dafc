"""`docker dso system setup`: from installed programs to an agent that answers, or back to where it began."""

from __future__ import annotations

import os

from dso.errors import ProviderFailedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from dso.host.machine import Host
    from dso.host.provider_check import ProviderHealth
    from dso.host.setup import Found, Plan, Wanted
    from dso.host.templates import Variable

_NO_ANSWERS = "without a terminal nobody can be asked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Create the group dso, /etc/dso/dso.yaml with comments for the chosen providers and /etc/dso/agent.env for "
        "their variables; verify the programs; enable and start the agent and wait until it answers. Files that "
        "exist are kept, and what is right is left alone, so it can be run again at any time. A step that fails "
        "undoes those before it. Values are taken from the environment, else asked for on a terminal."
    )
    parser.add_argument(
        "--provider",
        metavar="TYPE",
        action="append",
        default=[],
        help="a provider for a new dso.yaml: vault, aws, azure or huawei; may be given several times",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RELEASE",
        default="",
        help="install programs that are missing from this release (its tarball, or where it is unpacked)",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing")
    parser.add_argument("--dry-run", action="store_true", help="show every step, and change nothing")


def run(args: argparse.Namespace) -> int:
    """Set up.

    Raises:
        RootNeededError, ServiceError: not root, no systemd.
        UsageError: what should be done is not said, and there is no terminal to ask at.
        SetupUnfinishedError: everything is written, and variables have no value yet.
        SetupFailedError: a step failed, and those before it were undone.
        ConfigError: the existing configuration, or a given value, is faulty; nothing was changed.
        ProviderFailedError and its like: the agent runs, and a provider does not work.
    """
    from dso.cli.output import say
    from dso.cli.system_agent import agent_answers, need_root
    from dso.host.machine import Host
    from dso.host.setup import examine, is_complete, plan, unfinished
    from dso.host.transaction import perform

    _check_types(args.provider)
    host = Host()
    if not args.dry_run:
        need_root(host, "setup")
    found = examine(host)
    wanted = _wanted(args, found)
    _note_what_is_kept(args, found)
    planned = plan(host, found, wanted, agent_answers)
    if args.dry_run:
        _show(planned)
        return 0
    if is_complete(planned):
        say("Everything is set up already.")
    else:
        _confirm(args, planned)
    perform(planned.steps, lambda title: say(f"- {title}", flush=True))
    _say_who_may(wanted, found)
    if planned.unset:
        raise unfinished(planned.unset)
    return _check_providers(host)


def _check_types(given: Sequence[str]) -> None:
    """What is mistyped is told first, whatever else is wrong."""
    from dso.host.templates import TEMPLATES

    for each in given:
        if each not in TEMPLATES:
            raise UsageError(f"no provider: {each!r}", hint=f"there are {', '.join(TEMPLATES)}")


def _wanted(args: argparse.Namespace, found: Found) -> Wanted:
    from dso.host.setup import Wanted, open_questions
    from dso.host.templates import TEMPLATES, variables_of

    providers = list(dict.fromkeys(args.provider))
    may_ask = not args.yes and not args.dry_run
    if not providers and not found.has_config:
        providers = _ask_providers(list(TEMPLATES)) if may_ask else []
        if not providers:
            raise UsageError(
                "which providers?" + (f" {_NO_ANSWERS}" if may_ask else ""),
                hint=f"name them: --provider {' | --provider '.join(TEMPLATES)}",
            )
    values = {each.name: os.environ.get(each.name, "") for each in variables_of(providers)}
    wanted = Wanted(providers, values, _member(), args.source)
    if may_ask:
        values.update(_ask_values(open_questions(found, wanted)))
    _check_values(values)
    return wanted


def _member() -> str:
    """Who called sudo, if it was that: the one who will use `docker dso`."""
    user = os.environ.get("SUDO_USER", "")
    return "" if user == "root" else user


def _ask_providers(known: Sequence[str]) -> list[str]:
    from dso.system.terminal import ask_line

    while True:
        line = ask_line(f"Where are the secrets? ({', '.join(known)}; several with blanks between them): ")
        words = (line or "").replace(",", " ").lower().split()
        if line is None or not [each for each in words if each not in known]:
            return list(dict.fromkeys(words))


def _ask_values(variables: Sequence[Variable]) -> Mapping[str, str]:
    """What the user types; an empty line leaves a variable for later."""
    from dso.cli.output import note
    from dso.system.terminal import ask_hidden, ask_line, has_terminal

    if not variables or not has_terminal():
        return {}
    note("values for /etc/dso/agent.env, which only root can read; an empty line leaves one for later")
    values = {}
    for each in variables:
        prompt = f"  {each.name}, {each.question}: "
        typed = (ask_hidden(prompt) or b"").decode("utf-8", "replace") if each.is_secret else ask_line(prompt)
        values[each.name] = (typed or "").strip()
    return values


def _check_values(values: Mapping[str, str]) -> None:
    from dso.host.templates import is_writable

    unfit = [name for name, value in values.items() if not is_writable(value)]
    if unfit:
        raise UsageError(
            f"the value of {', '.join(unfit)} has line breaks or control characters, which agent.env cannot hold",
            hint="use a credential in a file: `man dso.yaml` names keys such as token_file",
        )


def _note_what_is_kept(args: argparse.Namespace, found: Found) -> None:
    from dso import paths
    from dso.cli.output import note

    known = {one.type for one in found.config.providers.values()} if found.config else set()
    missing = [each for each in dict.fromkeys(args.provider) if found.has_config and each not in known]
    if missing and found.config:
        note(
            f"{paths.SYSTEM_CONFIG} exists and is kept as it is: add {', '.join(missing)} to it yourself "
            "(examples: man dso.yaml)"
        )


def _show(planned: Plan) -> None:
    from dso.cli.output import say

    for number, step in enumerate(planned.steps, 1):
        say(f"{number}. {step.title}")
    for path, text in planned.texts.items():
        if not path.endswith(".env"):  # it may hold secrets
            say()
            say(f"{path} would be:")
            say()
            for line in text.splitlines():
                say(f"    {line}".rstrip())
    if planned.unset:
        say()
        say(f"The agent is not started before these have values: {', '.join(planned.unset)}.")
    say()
    say("Nothing was changed (--dry-run).")


def _confirm(args: argparse.Namespace, planned: Plan) -> None:
    from dso.cli.output import say
    from dso.system.terminal import confirm, has_terminal

    if args.yes:
        return
    if not has_terminal():
        raise UsageError(
            f"{_NO_ANSWERS} whether this machine may be changed", hint="add --yes, or --dry-run to see how"
        )
    say("This will:")
    for step in planned.steps:
        say(f"  {step.title}")
    if not confirm("Go on?"):
        raise UsageError("nothing was changed", hint="--dry-run shows the steps and the files in full")


def _say_who_may(wanted: Wanted, found: Found) -> None:
    from dso.cli.output import note

    if wanted.member and wanted.member not in (found.members or ()):
        note(f"{wanted.member} is in the group dso from the next login on; in this shell: `newgrp dso`")


def _check_providers(host: Host) -> int:
    """Say how each provider is; the first that does not work is the error."""
    from dso.cli.output import say
    from dso.host.installation import find_installation
    from dso.host.provider_check import check_providers

    found, fault = check_providers(host, find_installation(host).agent)
    for one in found:
        say(f"Provider {one.name} ({one.type}): {'works' if not one.code else one.message}")
    failed = [one for one in found if one.code]
    if failed:
        _raise(failed[0])
    if not found:
        raise ProviderFailedError(f"the agent is set up and runs, but its providers cannot be checked: {fault}")
    say("Cloud Mode is set up. Next, in a project: docker dso up")
    return 0


def _raise(health: ProviderHealth) -> None:
    from dso.protocol.agent import Fault
    from dso.protocol.faults import class_of

    raise class_of(Fault(health.code, health.message))(
        f"the agent is set up and runs, but its provider {health.name} does not work: {health.message}",
        hint=health.remedy + "\nnothing was undone; `docker dso system doctor` looks again",
    )
