"""The commands, and the module of each."""

from __future__ import annotations

from dso.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# In the order `--help` shows them.
COMMANDS = (
    "init",
    "secret",
    "env",
    "vault",
    "allow",
    "deny",
    "up",
    "down",
    "compose",
    "validate",
    "diff",
    "inspect",
    "status",
    "fetch",
    "export",
    "sync",
    "logs",
    "watch",
    "system",
    "version",
)

# These hand their words to Compose, so they read them themselves (dso.compose.command).
COMPOSE_COMMANDS = frozenset({"up", "down", "compose", "validate", "diff"})

_COMPOSES_OWN = (  # noqa: SIM905  # a list of as many lines is harder to read
    "attach build config cp create events exec images kill ls pause port ps pull push restart rm run scale start "
    "stats stop top unpause volumes wait"
).split(" ")


def load(command: str) -> ModuleType:  # noqa: C901, PLR0911, PLR0912  # one branch a command
    """The module of a command. Spelled out, since PyInstaller does not see computed imports."""
    if command == "init":
        from dso.cli import cmd_init

        return cmd_init
    if command == "secret":
        from dso.cli import cmd_secret

        return cmd_secret
    if command == "env":
        from dso.cli import cmd_env

        return cmd_env
    if command == "vault":
        from dso.cli import cmd_vault

        return cmd_vault
    if command == "allow":
        from dso.cli.grants import cmd_allow

        return cmd_allow
    if command == "deny":
        from dso.cli.grants import cmd_deny

        return cmd_deny
    if command == "up":
        from dso.cli import cmd_up

        return cmd_up
    if command == "down":
        from dso.cli import cmd_down

        return cmd_down
    if command == "compose":
        from dso.cli import cmd_compose

        return cmd_compose
    if command == "validate":
        from dso.cli import cmd_validate

        return cmd_validate
    if command == "diff":
        from dso.cli import cmd_diff

        return cmd_diff
    if command == "inspect":
        from dso.cli import cmd_inspect

        return cmd_inspect
    if command == "status":
        from dso.cli import cmd_status

        return cmd_status
    if command == "fetch":
        from dso.cli import cmd_fetch

        return cmd_fetch
    if command == "export":
        from dso.cli import cmd_export

        return cmd_export
    if command == "sync":
        from dso.cli import cmd_sync

        return cmd_sync
    if command == "logs":
        from dso.cli import cmd_logs

        return cmd_logs
    if command == "watch":
        from dso.cli import cmd_watch

        return cmd_watch
    if command == "system":
        from dso.cli import cmd_system

        return cmd_system
    if command == "version":
        from dso.cli import cmd_version

        return cmd_version
    raise UsageError(f"unknown command {command!r}", hint=_suggestion(command))


def _suggestion(command: str) -> str:
    from difflib import get_close_matches

    near = [] if command in _COMPOSES_OWN else get_close_matches(command, COMMANDS, 1)
    if near:
        return f"did you mean `docker dso {near[0]}`? `docker dso --help` lists all commands"
    if command in _COMPOSES_OWN:
        return f"Compose's commands are under `docker dso compose {command}`"
    return "`docker dso --help` lists all commands"
