"""Do the providers work? `dso-agent --check` knows: it starts each plugin and has it log in."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.host.machine import Host
    from dso.system.proc import Finished

_REMEDIES = {
    "unauthenticated": "correct the credentials in /etc/dso/agent.env, then: sudo docker dso system restart",
    "permission_denied": "give these credentials the right to read in the backend, or use others",
    "unavailable": "check the address in /etc/dso/dso.yaml, the network and the backend itself",
    "throttled": "wait, then try again: the backend wants fewer requests",
    "invalid_config": "correct /etc/dso/dso.yaml, then: sudo docker dso system restart",
    "plugin_missing": "`docker dso system setup --from TARBALL` installs the plugin",
    "plugin_user": "sudo docker dso system setup",
    "plugin_untrusted": "`docker dso system doctor` names the file and the command that mends it",
}


class ProviderHealth(NamedTuple):
    """A provider, and what is wrong with it: `code` and `message` are "" if nothing is."""

    name: str
    type: str
    code: str = ""
    message: str = ""

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES.get(self.code, "`docker dso system logs` may say more")


def check_providers(host: Host, agent: str) -> tuple[list[ProviderHealth], str]:
    """Every provider of /etc/dso/dso.yaml, and what kept them from being looked at, "" if nothing did; takes root."""
    return read_check(host.run([host.path(agent), "--check"]))


def read_check(finished: Finished) -> tuple[list[ProviderHealth], str]:
    """Read what `dso-agent --check` has printed: a heading, and a line `NAME (TYPE): ok` or `...: MESSAGE [CODE]`."""
    found = []
    lines = finished.stdout.decode("utf-8", "replace").splitlines()
    for entry in _entries(lines[1:]):
        head, _, outcome = entry.partition("): ")
        name, _, kind = head.partition(" (")
        if outcome == "ok":
            found.append(ProviderHealth(name, kind))
        elif outcome:
            message, _, code = outcome.rpartition(" [")
            found.append(ProviderHealth(name, kind, code.rstrip("]"), message))
    if found or not finished.code:
        return found, ""
    errors = finished.stderr.decode("utf-8", "replace").strip()
    return [], errors.removeprefix("Error: ") or f"dso-agent --check ended with {finished.code}"


def _entries(lines: Sequence[str]) -> list[str]:
    """Outcomes as one text each: a message may have several lines."""
    found: list[str] = []
    for line in lines:
        if found and not (found[-1].endswith("]") or found[-1].endswith("): ok")):
            found[-1] += "\n" + line
        else:
            found.append(line)
    return found
