"""Which flags of `docker compose` take a value, so that services can be told from values.

Source: Compose's command reference (docs.docker.com/reference/cli/docker/compose/), up to 2.40. A
flag these tables do not know is looked up in the installed Compose's own `--help`.
"""

from __future__ import annotations

GLOBAL_VALUES = frozenset(
    {
        "--ansi",
        "--env-file",
        "-f",
        "--file",
        "--parallel",
        "--profile",
        "--progress",
        "--project-directory",
        "-p",
        "--project-name",
        "--workdir",
    }
)
GLOBAL_SWITCHES = frozenset(
    {
        "--all-resources",
        "--compatibility",
        "--dry-run",
        "-h",
        "--help",
        "--insecure-registry",
        "--no-ansi",
        "--verbose",
        "-v",
        "--version",
    }
)

# Global flags without a value that `up` and `down` take behind them too.
GLOBAL_ANYWHERE = frozenset({"--all-resources", "--compatibility", "--no-ansi", "--verbose"})

_CREATE_VALUES = {"--pull", "--scale"}
_CREATE_SWITCHES = {
    "--build",
    "--force-recreate",
    "--no-build",
    "--no-recreate",
    "--quiet-build",
    "--quiet-pull",
    "--remove-orphans",
    "-y",
    "--yes",
}

# Commands that create, re-create or start containers, with their flags that take a value.
VALUES: dict[str, frozenset[str]] = {
    "up": frozenset(
        _CREATE_VALUES | {"--attach", "--exit-code-from", "--no-attach", "-t", "--timeout", "--wait-timeout"}
    ),
    "create": frozenset(_CREATE_VALUES),
    "run": frozenset(
        {
            "--cap-add",
            "--cap-drop",
            "--entrypoint",
            "-e",
            "--env",
            "--env-from-file",
            "-l",
            "--label",
            "--name",
            "-p",
            "--publish",
            "--pull",
            "-u",
            "--user",
            "-v",
            "--volume",
            "-w",
            "--workdir",
        }
    ),
    "start": frozenset({"--wait-timeout"}),
    "restart": frozenset({"-t", "--timeout"}),
    "watch": frozenset(),
    "scale": frozenset(),
}
SWITCHES: dict[str, frozenset[str]] = {
    "up": frozenset(
        _CREATE_SWITCHES
        | {
            "--abort-on-container-exit",
            "--abort-on-container-failure",
            "--always-recreate-deps",
            "--attach-dependencies",
            "-d",
            "--detach",
            "--menu",
            "--no-color",
            "--no-deps",
            "--no-log-prefix",
            "--no-start",
            "-V",
            "--renew-anon-volumes",
            "--timestamps",
            "--wait",
            "-w",
            "--watch",
        }
    ),
    "create": frozenset(_CREATE_SWITCHES),
    "run": frozenset(
        {
            "--build",
            "-d",
            "--detach",
            "-i",
            "--interactive",
            "-T",
            "--no-TTY",
            "--no-deps",
            "--quiet",
            "-q",
            "--quiet-build",
            "--quiet-pull",
            "--remove-orphans",
            "--rm",
            "-P",
            "--service-ports",
            "--use-aliases",
        }
    ),
    "start": frozenset({"--wait"}),
    "restart": frozenset({"--no-deps"}),
    "watch": frozenset({"--no-up", "--prune", "--quiet"}),
    "scale": frozenset({"--no-deps"}),
}

# Commands after which the project may have no running container left, and their flags with a value.
ENDING: dict[str, frozenset[str]] = {
    "down": frozenset({"--rmi", "-t", "--timeout"}),
    "kill": frozenset({"-s", "--signal"}),
    "rm": frozenset(),
    "stop": frozenset({"-t", "--timeout"}),
    "wait": frozenset(),
}
SWITCHES |= {
    "down": frozenset({"--remove-orphans", "-v", "--volumes"}),
    "kill": frozenset({"--remove-orphans"}),
    "rm": frozenset({"-f", "--force", "-s", "--stop", "-v", "--volumes"}),
    "stop": frozenset(),
    "wait": frozenset({"--down-project"}),
}
