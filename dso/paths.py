"""Every path, variable and label name DSO uses, in one place."""

import os

# Variables that DSO reads.
MODE_VARIABLE = "DSO_MODE"
FORCE_MODE_VARIABLE = "DSO_FORCE_MODE"
MASTER_KEY_VARIABLE = "DSO_MASTER_KEY"
PASSPHRASE_FILE_VARIABLE = "DSO_PASSPHRASE_FILE"  # noqa: S105  # a variable's name
PRIVATE_VARIABLES = (MASTER_KEY_VARIABLE, PASSPHRASE_FILE_VARIABLE)  # never handed to a child process

# Cloud configuration.
SYSTEM_CONFIG = "/etc/dso/dso.yaml"
PROJECT_CONFIG = "dso.yaml"

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
