"""References to values, from the local vault."""

from __future__ import annotations

from typing import NamedTuple

from dso.errors import SecretFieldError, SecretNotFoundError
from dso.protocol.fields import field_of
from dso.secret import FoundSecret, mac
from dso.vault.names import GLOBAL_NAMESPACE, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Protocol

    from dso.secret import SecretRef
    from dso.vault.store import Vault

    class Gate(Protocol):
        """Says which secrets a project may have."""

        def allows(self, name: str) -> bool:
            """Whether the project may have the secret with this full name, be there one or not."""

        def admit(self, wishes: Sequence[Wish]) -> None:
            """Have the user agree to what the project may not have yet.

            Raises:
                NotGrantedError: they do not, or cannot be asked.
            """


class Wish(NamedTuple):
    """A reference to a secret that a project may not have.

    `name` is the full name that would have to be granted. `tells` is whether that name says more than the project's
    files do: which of two candidates it is depends on what is in the vault, and a stranger's project must not learn
    that from a log. `own` is the project's own secret of that short name, where the project may have it: there is none
    in the vault, or nothing else would be needed; `near` are words on what the project may have that is called alike.
    `is_stored`: whether the vault has it, for the user's eyes only.
    """

    reference: SecretRef
    place: str
    name: str
    tells: bool
    own: str = ""
    near: str = ""
    is_stored: bool = True


class LocalResolver:
    """Resolves a project's references out of an open vault, as far as the project was granted it."""

    def __init__(self, vault: Vault, project: str, gate: Gate) -> None:
        """Remember the vault, the Compose project whose namespace comes first, and who says what it may have."""
        self._vault = vault
        self._project = project
        self._gate = gate

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
            NotGrantedError: the project may not have them; nothing is said of what the vault has.
            SecretNotFoundError: secrets or versions do not exist; all of them in one error, with the
                nearest existing names that the project may have.
            SecretFieldError: every secret exists, but fields do not, or none is chosen where there are several; all
                of them in one error.
        """
        wishes = self.wishes(requests)
        if wishes:
            self._gate.admit(wishes)
        found: dict[SecretRef, FoundSecret] = {}
        missing: list[str] = []
        unclear: dict[str, str] = {}  # what is wrong with a field -> what to do about it
        for reference, place in requests.items():
            name = self.name_of(reference)
            version = int(reference.version) if reference.version and reference.version.isdigit() else None
            if name is None:
                missing.append(f"{reference} ({place}){self._nearest(reference.path)}")
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

    def wishes(self, requests: Mapping[SecretRef, str]) -> list[Wish]:
        """Those of the requests, as `resolve` takes them, that the project may not have."""
        return [wish for reference, place in requests.items() if (wish := self._wish(reference, place)) is not None]

    def name_of(self, reference: SecretRef) -> str | None:
        """The full name in the vault a reference stands for; None when there is no such secret.

        Without a namespace it is the project's, then `global`.
        """
        return next((name for name in self._candidates(reference) if self._vault.has(name)), None)

    def _candidates(self, reference: SecretRef) -> tuple[str, ...]:
        if "/" in reference.path:
            return (reference.path,)
        return f"{self._project}/{reference.path}", f"{GLOBAL_NAMESPACE}/{reference.path}"

    def _wish(self, reference: SecretRef, place: str) -> Wish | None:
        """What a reference needs and the project may not have; None if it may have it.

        Whether the secret exists makes no difference, so that nobody learns that by asking.
        """
        first, *others = self._candidates(reference)
        stored = self.name_of(reference)
        name, is_stored = stored or (others or [first])[0], stored is not None
        if self._gate.allows(name):
            return None
        if not others:
            return Wish(reference, place, name, tells=False, is_stored=is_stored)
        if not self._gate.allows(first):
            return Wish(reference, place, name, tells=True, is_stored=is_stored)
        return Wish(reference, place, name, tells=False, own=first, near=self._nearest(first), is_stored=is_stored)

    def _read(self, reference: SecretRef, name: str, version: int | None) -> FoundSecret:
        value = self._vault.get(name, version)
        value = field_of(value, reference.field, name=name, as_file=reference.is_file)
        what = ("secret", "", name, reference.field or "", reference.version or "")
        return FoundSecret(value, mac(self._vault.mac_key, value, *what))

    def _nearest(self, wanted: str) -> str:
        near = nearest(wanted, [name for name in self._vault.names() if self._gate.allows(name)])
        return f": did you mean {near}?" if near else ""


def _field_error(unclear: Mapping[str, str]) -> SecretFieldError:
    """One error for all fields that cannot be served; the hints, which name fields, each once."""
    if len(unclear) == 1:
        ((message, hint),) = unclear.items()
        return SecretFieldError(message, hint=hint)
    hints = "; ".join(dict.fromkeys(filter(None, unclear.values())))
    return SecretFieldError(f"{len(unclear)} references have no value:\n  " + "\n  ".join(unclear), hint=hints)
