"""Every error DSO can report, with its exit code.

Libraries raise these; only `dso.cli.main` prints them and exits. A message says what happened, a
hint says what to do next; neither ever holds a secret's value. The code belongs to the class, one
code per class (`docs/exit-codes.md` is generated from this module). What Compose returns is passed
on as it is, so the classes keep out of the way of its own codes (1, 14 to 18, 130) and the shell's.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from typing import ClassVar

# An outcome for scripts and not an error: `diff --exit-code` when `up` would change something.
DIFFERENCE_FOUND = 10


class DsoError(Exception):
    """Something DSO does not expect: a defect, or a failure no other class describes."""

    code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DsoError):
    """The command line does not make sense: unknown command or flag, missing or contradictory argument."""

    code = 125


class NotConfiguredError(DsoError):
    """No mode could be chosen: no vault, no dso.yaml, no `--mode`."""

    code = 3


class VaultNotFoundError(DsoError):
    """Local Mode was asked for, and there is no vault."""

    code = 50


class VaultDamagedError(DsoError):
    """The file is no vault, is truncated, or was changed by something other than DSO."""

    code = 51


class VaultVersionError(DsoError):
    """The vault was written by a newer DSO in a format this one does not know."""

    code = 52


class WrongKeyError(DsoError):
    """No key or passphrase at hand unlocks the vault."""

    code = 53


class InsecurePermissionsError(DsoError):
    """A key file, or the directory that holds the vault, can be read or changed by other users."""

    code = 54


class VaultWriteError(DsoError):
    """The vault could not be written; the former one is untouched."""

    code = 55


class VaultBusyError(DsoError):
    """Another process held the vault's lock for too long."""

    code = 56


class FileExistsRefusedError(DsoError):
    """A file that the command would have to overwrite exists."""

    code = 57


class FileAccessError(DsoError):
    """A file named on the command line cannot be read or written."""

    code = 58


class ReferenceSyntaxError(DsoError):
    """A `dso://` or `dsofile://` reference does not follow the grammar."""

    code = 20


class SecretNotFoundError(DsoError):
    """One or more secrets, versions or namespaces do not exist."""

    code = 21


class ReferencePlaceError(DsoError):
    """A reference stands where DSO does not serve it."""

    code = 22


class SecretFieldError(DsoError):
    """A secret has no such field, or several fields and the reference picks none."""

    code = 23


class UnsuitableValueError(DsoError):
    """A value cannot be what the stack wants it to be, such as an environment variable with a NUL byte."""

    code = 24


class InvalidSecretError(DsoError):
    """A value or a name the vault does not accept: empty, larger than 1 MiB, malformed name."""

    code = 25


class EnvFileError(DsoError):
    """A `.env` file has a syntax error or a variable that cannot be imported."""

    code = 26


class SecretExistsError(DsoError):
    """One or more secrets exist already, and the command would have to overwrite them."""

    code = 27


class EditorError(DsoError):
    """The editor for `secret edit` could not be started, failed, or left no file."""

    code = 28


class NotGrantedError(DsoError):
    """A project asks for secrets, or for settings of its dso.yaml, that its directory was not granted."""

    code = 29


class DockerNotFoundError(DsoError):
    """There is no `docker` command on this machine."""

    code = 30


class ComposeNotFoundError(DsoError):
    """There is no Compose v2, or one too old for what the stack needs."""

    code = 31


class EngineUnreachableError(DsoError):
    """The Docker Engine does not answer, or this user may not speak to it."""

    code = 32


class EngineError(DsoError):
    """The Docker Engine refused a request."""

    code = 33


class EngineUnsupportedError(DsoError):
    """The Engine lacks something file secrets need (API version, operating system, architecture)."""

    code = 34


class ContainerNotFoundError(DsoError):
    """There is no such container."""

    code = 35


class NoMemoryFileError(DsoError):
    """No memory-backed place for plaintext could be had, and DSO never falls back to a disk."""

    code = 36


class VolumeConflictError(DsoError):
    """A volume for file secrets is not DSO's, or belongs to another project than what mounts or joins it."""

    code = 37


class KeeperError(DsoError):
    """The container that keeps file secrets in memory does not stay up, or is not what it should be."""

    code = 38


class AgentUnavailableError(DsoError):
    """No `dso-agent` answers."""

    code = 40


class AgentForbiddenError(DsoError):
    """This user may not speak to the agent."""

    code = 41


class AgentVersionError(DsoError):
    """The agent speaks another version of the API."""

    code = 42


class AgentProtocolError(DsoError):
    """The agent answered something else than its API says, or refused a request it should understand."""

    code = 43


class ConfigError(DsoError):
    """dso.yaml, or what it refers to, is faulty."""

    code = 44


class SecretForbiddenError(DsoError):
    """This user, or the provider's credentials, may not read one or more secrets."""

    code = 45


class ProviderFailedError(DsoError):
    """A provider, or its plugin, cannot be reached or does not work."""

    code = 46


class FileSecretsUnavailableError(DsoError):
    """Cloud Mode cannot deliver file secrets here: the agent's volume driver is not reachable by the Engine."""

    code = 47


class AgentSocketError(DsoError):
    """`dso-agent` cannot listen on its socket: another agent does, or its place cannot be used."""

    code = 48


class AgentUntrustedError(DsoError):
    """Who listens on the agent's socket is neither root nor this user."""

    code = 49


class AgentBusyError(DsoError):
    """The agent has no room for this user's request now; `retry_after` seconds later it may have."""

    code = 65

    def __init__(self, message: str, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class UnhealthyError(DsoError):
    """`system doctor` found something that does not work."""

    code = 60


class SetupUnfinishedError(DsoError):
    """`system setup` has written its files, and variables in them have no value yet."""

    code = 61


class SetupFailedError(DsoError):
    """`system setup` failed; what was there before is there again."""

    code = 62


class RootNeededError(DsoError):
    """Only root may do this."""

    code = 63


class ServiceError(DsoError):
    """systemd is not there, or could not start, stop or enable the agent."""

    code = 64


class NotLoadableError(DsoError):
    """The machine lets no code run from memory, nor from the temporary directory, or lacks a library that DSO needs."""

    code = 71


class ComposeFailedError(Exception):
    """Compose refused the stack: its own message and exit code are passed on as they are."""

    def __init__(self, code: int, stderr: bytes) -> None:
        super().__init__(f"docker compose ended with {code}")
        self.code = code
        self.stderr = stderr
