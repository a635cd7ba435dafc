"""`docker-dso __complete dso WORDS...`: what could be typed next, asked by the shell through Docker.

The protocol is that of the library Docker's command line is made with (cobra): the words as typed, the last one
as far as it goes (it may be empty); the answer is a line `CANDIDATE<TAB>DESCRIPTION` each, and last `:DIRECTIVE`.
Docker hands the words behind `docker dso` on, without its own global flags, and prints the answer
(AddPluginCommandStubs in cli-plugins/manager of docker/cli).

Nothing but that answer is printed, whatever goes wrong: the user is in the middle of a line.
"""

from __future__ import annotations

from dso.cli.invocation import PLUGIN_NAME
from dso.cli.output import say_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.cli.completion import Answer
    from dso.cli.invocation import Invocation

_WITH_DESCRIPTIONS = "__complete"
PATIENCE = 3.0  # seconds after which the shell gets no answer: whoever pressed TAB waits for it


class _TooLongError(Exception):
    """An agent, an Engine or a file system does not answer."""


def run(invocation: Invocation) -> int:
    """Print the answer; the exit code is always 0, or Docker would print something."""
    with_descriptions = invocation.command == _WITH_DESCRIPTIONS
    say_lines("\n".join(_answer(invocation.words).lines(with_descriptions=with_descriptions)))
    return 0


def _answer(words: Sequence[str]) -> Answer:
    from _signal import ITIMER_REAL, SIGALRM, setitimer, signal  # type: ignore[import-not-found]

    from dso.cli.completion import NOTHING, answer

    if words[:1] == [PLUGIN_NAME]:
        words = words[1:]
    former = signal(SIGALRM, _give_up)
    setitimer(ITIMER_REAL, PATIENCE)
    try:
        return answer(words[:-1], "".join(words[-1:]))
    except Exception:  # noqa: BLE001  # no vault, no key, no agent, a faulty file: there is nothing to offer
        return NOTHING
    finally:
        setitimer(ITIMER_REAL, 0)
        signal(SIGALRM, former)


def _give_up(*_details: object) -> None:
    raise _TooLongError
