"""Every path, variable and label name DSO uses, in one place."""

import os

# Variables that DSO reads.
MODE_VARIABLE = "DSO_MODE"
FORCE_MODE_VARIABLE = "DSO_FORCE_MODE"
MASTER_KEY_VARIABLE = "DSO_MASTER_KEY"
PASSPHRASE_FILE_VARIABLE = "DSO_PASSPHRASE_FILE"  # noqa: S105  # a variable's name
SOCKET_VARIABLE = "DSO_SOCKET_PATH"  # where the agent listens, and where the command line looks for it
ALLOW_VARIABLE = "DSO_ALLOW"  # what any project may have, for CI; never read from a `.env` file
PLUGIN_DIR_VARIABLE = "DSO_PLUGIN_DIR"  # where the agent finds providers' plugins
# The way into the vault: never handed to a child process, and no file's text can take one, whoever wrote the file.
PRIVATE_VARIABLES = (MASTER_KEY_VARIABLE, PASSPHRASE_FILE_VARIABLE)

# Cloud configuration.
SYSTEM_CONFIG = "/etc/dso/dso.yaml"
SYSTEM_ENVIRONMENT = "/etc/dso/agent.env"  # 0600: variables that systemd gives root's agent
PROJECT_CONFIG = "dso.yaml"

# The agent's places when root runs it; see `agent_socket` and its neighbours for other users.
SYSTEM_SOCKET = "/var/run/dso.sock"  # 0660 root:dso
SYSTEM_PLUGIN_DIR = "/usr/local/lib/dso/plugins"
SYSTEM_STATE_DIR = "/var/lib/dso"  # 0700
SYSTEM_RUNTIME_DIR = "/run/dso"  # 0700
SYSTEM_CREDENTIALS_DIR = "/run/dso-credentials"  # 0711: copies of plugins' files, each its own user's
SYSTEM_VOLUME_SOCKET = "/run/docker/plugins/dso.sock"  # the driver's name is the file's, without .sock
AGENT_GROUP = "dso"  # who may use root's agent
PLUGIN_USER_PREFIX = "dso-"  # dso-TYPE: whom root's agent runs plugins of a type as
PLUGIN_USER = "dso-plugin"  # for types that DSO does not bring and that have no user of their own
# The number that each has unless it is taken: installer/sysusers.d/dso.conf says why.
PLUGIN_USERS = {"dso-vault": 60901, "dso-aws": 60902, "dso-azure": 60903, "dso-huawei": 60904, PLUGIN_USER: 60900}

# Inside a container.
CONTAINER_SECRETS_DIR = "/run/secrets/dso"

# Labels on containers, volumes and the keeper.
LABEL_DIGEST = "io.dso.digest"  # keyed MAC over all of a service's resolved secrets
LABEL_MANIFEST = "io.dso.manifest"  # JSON: which variable or file came from which reference, with its MAC
LABEL_ROLE = "io.dso.role"  # "keeper" or "volume"
LABEL_PROJECT = "io.dso.project"
LABEL_SERVICE = "io.dso.service"
LABEL_VAULT = "io.dso.vault"  # id of the vault the secrets came from


def home() -> str:
    """The user's home directory: $HOME, else the password database's."""
    return os.environ.get("HOME") or os.path.expanduser("~")


def dso_dir() -> str:
    """`~/.dso`, which holds the vault; 0700."""
    return home() + "/.dso"


def vault_file() -> str:
    """`~/.dso/vault.enc`; 0600."""
    return dso_dir() + "/vault.enc"


def master_key_file() -> str:
    """`~/.dso/master.key`; 0600, 64 hexadecimal digits and a newline."""
    return dso_dir() + "/master.key"


def grants_file() -> str:
    """`~/.dso/grants.json`; 0600. Which directory may have which secrets."""
    return dso_dir() + "/grants.json"


def agent_socket(uid: int) -> str:
    """Where the agent of this user listens unless its configuration says otherwise."""
    return SYSTEM_SOCKET if uid == 0 else user_runtime_dir(uid) + "/dso.sock"


def agent_state_dir(uid: int) -> str:
    """Where the agent of this user keeps what has to survive it; never a value."""
    if uid == 0:
        return SYSTEM_STATE_DIR
    return (os.environ.get("XDG_STATE_HOME") or home() + "/.local/state") + "/dso"


def agent_runtime_dir(uid: int) -> str:
    """Where the agent of this user keeps what must not survive a reboot."""
    return SYSTEM_RUNTIME_DIR if uid == 0 else user_runtime_dir(uid) + "/dso"


def volume_socket(uid: int) -> str | None:
    """Where the agent of this user serves file secrets to the Engine; None: it cannot, that takes root."""
    return SYSTEM_VOLUME_SOCKET if uid == 0 else None


def user_runtime_dir(uid: int) -> str:
    """$XDG_RUNTIME_DIR, else what systemd-logind would have made of it."""
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"


def find_agent_socket(configured: str | None = None) -> str:
    """Where the command line looks for the agent: the path to try, whether or not anything is there.

    DSO_SOCKET_PATH, else what the configuration in use says (`agent.socket`), else root's agent if
    its socket exists, else this user's own if that exists, else root's.
    """
    given = os.environ.get(SOCKET_VARIABLE) or configured
    if given:
        return given
    own = agent_socket(os.getuid())
    return own if not os.path.exists(SYSTEM_SOCKET) and os.path.exists(own) else SYSTEM_SOCKET
