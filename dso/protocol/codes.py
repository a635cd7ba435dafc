"""The codes of errors that cross a process border in Cloud Mode; messages are for people, codes for programs.

A code never changes its meaning. docs/provider-protocol.md and docs/agent-api.md list them.
"""

from __future__ import annotations

# What a provider says of one secret or of itself.
NOT_FOUND = "not_found"
PERMISSION_DENIED = "permission_denied"
UNAUTHENTICATED = "unauthenticated"
THROTTLED = "throttled"
UNAVAILABLE = "unavailable"
INVALID_CONFIG = "invalid_config"
INVALID_REQUEST = "invalid_request"
PROVIDER_CODES = frozenset(
    {NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED, THROTTLED, UNAVAILABLE, INVALID_CONFIG, INVALID_REQUEST}
)

# What the agent says of a provider's plugin.
PLUGIN_MISSING = "plugin_missing"  # no such program
PLUGIN_UNTRUSTED = "plugin_untrusted"  # its file, or the directory, could be changed by others
PLUGIN_USER = "plugin_user"  # the user it is to run as is missing, or the agent cannot become it
PLUGIN_SLOW_START = "plugin_slow_start"  # it did not answer `initialize` in time
PLUGIN_VERSION = "plugin_version"  # it speaks another version of the protocol
PLUGIN_CRASHED = "plugin_crashed"  # it ended while an answer was due
PLUGIN_TIMEOUT = "plugin_timeout"  # it did not answer in time
PLUGIN_GARBAGE = "plugin_garbage"  # what it wrote is no message of the protocol
PLUGIN_OVERSIZED = "plugin_oversized"  # a message, or the answer a secret needs, exceeds 4 MiB or has too many values
PLUGIN_CODES = frozenset(
    {
        PLUGIN_MISSING,
        PLUGIN_UNTRUSTED,
        PLUGIN_USER,
        PLUGIN_SLOW_START,
        PLUGIN_VERSION,
        PLUGIN_CRASHED,
        PLUGIN_TIMEOUT,
        PLUGIN_GARBAGE,
        PLUGIN_OVERSIZED,
    }
)

# What the agent says of a request.
UNKNOWN_SECRET = "unknown_secret"  # noqa: S105  # no entry of dso.yaml and no provider a reference could mean
UNKNOWN_FIELD = "unknown_field"  # the secret has no such field, or several and none was picked
UNKNOWN_PROVIDER = "unknown_provider"  # a project's entry names a provider the agent does not have
VOLUME_UNAVAILABLE = "volume_unavailable"  # this agent cannot serve file secrets
TOO_LARGE = "too_large"  # the body exceeds the limit
UNSUPPORTED = "unsupported"  # no such endpoint or method
BUSY = "busy"  # as much of this goes on as the agent allows; another try may succeed
INTERNAL = "internal"  # a defect of the agent
RELOAD_FAILED = "reload_failed"  # the new configuration is faulty; the former one stays in force

# Another try may succeed without anybody doing anything: the agent retries, and serves a stale value meanwhile.
TRANSIENT = frozenset(
    {THROTTLED, UNAVAILABLE, PLUGIN_SLOW_START, PLUGIN_CRASHED, PLUGIN_TIMEOUT, PLUGIN_GARBAGE, PLUGIN_MISSING}
)
