"""What `docker dso vault status` and `check` look at."""

from __future__ import annotations

import os

from dso import paths
from dso.errors import DsoError, InsecurePermissionsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def status() -> dict[str, Any]:
    """What can be said of the vault without asking anybody for a passphrase.

    `path`, `id`, `format`; `size` in bytes; `mode` as octal digits; `slots` with `id`, `type`,
    `created` (seconds since 1970) and `kdf`; `unlocked_by` the slot that a key at hand opens;
    `secrets` (their number) and `created` of the vault. The last three are None when it stays locked, and
    `locked` then says why. `problems` lists what `check` would complain of.

    Raises:
        VaultNotFoundError, VaultDamagedError, VaultVersionError: there is no header to read.
    """
    from dso.vault.format import VERSION
    from dso.vault.store import Vault, read_vault_file, vault_path
    from dso.vault.unlock import Unlock

    path = vault_path()
    data, header = read_vault_file(path)
    report: dict[str, Any] = {
        "path": path,
        "id": header.vault_id,
        "format": VERSION,
        "size": len(data),
        "mode": f"{os.stat(path).st_mode & 0o7777:04o}",
        "slots": [
            {"id": slot.id, "type": slot.type, "created": slot.created, "kdf": slot.kdf} for slot in header.slots
        ],
        "unlocked_by": None,
        "secrets": None,
        "created": None,
        "locked": None,
        "problems": permission_problems(path),
    }
    try:
        vault = Vault.from_bytes(data, header, path, Unlock(ask=lambda _prompt: None))
    except DsoError as error:
        report["locked"] = error.message
    else:
        report.update(unlocked_by=vault.slot_id, secrets=len(vault.names()), created=vault.created)
    return report


def print_status(report: dict[str, Any]) -> None:
    """Show what `status` found."""
    from dso.cli.output import local_time, print_table, say, warn

    say(f"Vault:    {report['path']}")
    say(f"Id:       {report['id']} (format {report['format']})")
    if report["locked"] is None:
        say(f"Created:  {local_time(report['created'])}")
        say(f"Secrets:  {report['secrets']}")
    else:
        say(f"Locked:   {report['locked']}")
    say(f"Size:     {report['size']} B, mode {report['mode']}")
    say()
    rows = [
        (slot["id"], slot["type"], local_time(slot["created"]), "yes" if slot["id"] == report["unlocked_by"] else "")
        for slot in report["slots"]
    ]
    print_table(("slot", "type", "created", "opened with it now"), rows)
    for problem in report["problems"]:
        warn(problem)


def permission_problems(path: str) -> list[str]:
    """What is wrong with the permissions of the vault, its directory and the key file, each with the chmod to run."""
    import stat

    found = []
    for checked, allowed in ((os.path.dirname(path), 0o700), (path, 0o600), (paths.master_key_file(), 0o600)):
        try:
            status = os.stat(checked)
        except OSError:
            continue
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            found.append(f"{checked} is open to other users (mode {mode:04o}): chmod {allowed:o} {checked}")
        if status.st_uid not in (os.geteuid(), 0):
            found.append(f"{checked} belongs to user {status.st_uid}, not to you")
    return found


def check_permissions(path: str) -> None:
    """Raise InsecurePermissionsError if `permission_problems` has any."""
    found = permission_problems(path)
    if found:
        raise InsecurePermissionsError("the vault decrypts, but: " + "; ".join(found))
