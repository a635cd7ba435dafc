"""References to values, from the local vault."""

from __future__ import annotations

from dso.errors import SecretFieldError, SecretNotFoundError
from dso.protocol.fields import field_of
from dso.secret import FoundSecret, mac
from dso.vault.names import GLOBAL_NAMESPACE, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dso.secret import SecretRef
    from dso.vault.store import Vault


class LocalResolver:
    """Resolves a project's references out of an open vault."""

    def __init__(self, vault: Vault, project: str) -> None:
        """Remember the vault and the Compose project whose namespace comes first."""
        self._vault = vault
        self._project = project

    def resolve(
        self,
        requests: Mapping[SecretRef, str],
        in_files: Collection[SecretRef] = (),  # noqa: ARG002  # these need their values too: the keeper gets them
    ) -> dict[SecretRef, FoundSecret]:
        """The value of every reference.

        Args:
            requests: each reference with the place that wants it ("service api, variable KEY").
            in_files: those of them whose value nothing but files needs.

        Raises:
            SecretNotFoundError: secrets or versions do not exist; all of them in one error, with the
                nearest existing names.
            SecretFieldError: every secret exists, but fields do not, or none is chosen where there are several; all
                of them in one error.
        """
        found: dict[SecretRef, FoundSecret] = {}
        missing: list[str] = []
        unclear: dict[str, str] = {}  # what is wrong with a field -> what to do about it
        for reference, place in requests.items():
            name = self.name_of(reference)
            version = int(reference.version) if reference.version and reference.version.isdigit() else None
            if name is None:
                missing.append(f"{reference} ({place}){self._nearest(reference)}")
            elif reference.version is not None and version not in self._vault.versions(name):
                kept = ", ".join(map(str, self._vault.versions(name)))
                missing.append(f"{reference} ({place}): the vault keeps version {kept}")
            else:
                try:
                    found[reference] = self._read(reference, name, version)
                except SecretFieldError as error:
                    unclear[f"{reference} ({place}): {error.message}"] = error.hint
        if missing:
            what = "secret is" if len(missing) == 1 else "secrets are"
            raise SecretNotFoundError(
                f"{len(missing)} {what} not in the vault:\n  " + "\n  ".join(missing),
                hint="store each with `docker dso secret set NAMESPACE/NAME`; `docker dso secret list` shows all",
            )
        if unclear:
            raise _field_error(unclear)
        return found

    def name_of(self, reference: SecretRef) -> str | None:
        """The full name in the vault a reference stands for; None when there is no such secret.

        Without a namespace it is the project's, then `global`.
        """
        if "/" in reference.path:
            candidates: tuple[str, ...] = (reference.path,)
        else:
            candidates = (f"{self._project}/{reference.path}", f"{GLOBAL_NAMESPACE}/{reference.path}")
        return next((name for name in candidates if self._vault.has(name)), None)

    def _read(self, reference: SecretRef, name: str, version: int | None) -> FoundSecret:
        value = self._vault.get(name, version)
        value = field_of(value, reference.field, name=name, as_file=reference.is_file)
        what = ("secret", "", name, reference.field or "", reference.version or "")
        return FoundSecret(value, mac(self._vault.mac_key, value, *what))

    def _nearest(self, reference: SecretRef) -> str:
        near = nearest(reference.path, self._vault.names())
        return f": did you mean {near}?" if near else ""


def _field_error(unclear: Mapping[str, str]) -> SecretFieldError:
    """One error for all fields that cannot be served; the hints, which name fields, each once."""
    if len(unclear) == 1:
        ((message, hint),) = unclear.items()
        return SecretFieldError(message, hint=hint)
    hints = "; ".join(dict.fromkeys(filter(None, unclear.values())))
    return SecretFieldError(f"{len(unclear)} references have no value:\n  " + "\n  ".join(unclear), hint=hints)
