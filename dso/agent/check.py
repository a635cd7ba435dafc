"""`dso-agent --check`: does every provider work with this configuration?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dso.agent.environment import redactor_of
from dso.agent.events import Events
from dso.agent.isolation.quarters import Quarters
from dso.agent.logbook import take_over_logging
from dso.agent.providers import Providers
from dso.protocol.agent import Fault
from dso.protocol.faults import class_of
from dso.protocol.provider import ProviderError
from dso.system.visible import visible

if TYPE_CHECKING:
    from dso.agent.logbook import Logbook
    from dso.config.model import CloudConfig


async def check(config: CloudConfig, plugin_dir: str, book: Logbook) -> int:
    """Reach every provider, print a line for each, and return the exit code: that of the first failure, or 0."""
    for provider in config.providers.values():
        book.redact(redactor_of(provider))
    take_over_logging(book, asyncio.get_running_loop())
    counted = f"{_counted(len(config.providers), 'provider')}, {_counted(len(config.secrets), 'secret')}"
    print(visible(f"{config.path}: {counted}"))
    providers = Providers(
        config.providers,
        plugin_dir,
        quarters=Quarters.of_this_process(),
        emit=Events(book),
        announce=lambda _line: None,
    )
    await providers.start()
    try:
        outcomes = await asyncio.gather(*(_outcome(providers, name) for name in config.providers))
    finally:
        await providers.close()
    code = 0
    for (name, provider), error in zip(config.providers.items(), outcomes, strict=True):
        outcome = "ok" if error is None else f"{error.message} [{error.code}]"
        print(visible(f"{name} ({provider.type}): {outcome}"))
        if error is not None and not code:
            code = class_of(Fault(error.code, error.message)).code
    return code


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


async def _outcome(providers: Providers, name: str) -> ProviderError | None:
    try:
        await providers.check(name)
    except ProviderError as error:
        return error
    return None
