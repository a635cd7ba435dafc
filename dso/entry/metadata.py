"""What Docker asks of every plugin before it runs one, and on each `docker --help`.

Docker waits for this answer each time, so nothing is imported for it but what the interpreter
already holds. In the frozen binary it is given by `dso.entry.early`, before PyInstaller's own
start-up code.
"""

from posix import _exit, write

from dso.version import SHORT_DESCRIPTION, URL, VENDOR, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = "docker-cli-plugin-metadata"
ANSWER = f"""\
{{
  "SchemaVersion": "0.1.0",
  "Vendor": "{VENDOR}",
  "Version": "{VERSION}",
  "ShortDescription": "{SHORT_DESCRIPTION}",
  "URL": "{URL}"
}}
"""


def answer_and_exit(argv: "Sequence[str]") -> None:
    """End the process with the plugin metadata on stdout if that is what `argv` asks for, else return."""
    if len(argv) < 2 or argv[1] != COMMAND:  # noqa: PLR2004  # the program's name and one word
        return
    try:
        write(1, ANSWER.encode())  # less than a pipe takes at once
    except OSError:
        _exit(1)
    _exit(0)
