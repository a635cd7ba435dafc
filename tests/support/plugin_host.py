"""An agent reduced to its providers, to be killed: prints the plugins' process numbers and waits.

Usage: plugin_host.py PLUGIN_DIR PLUGIN...
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.plugin_dir import PluginDir, running


async def main(directory: str, plugins: list[str]) -> None:
    place = PluginDir(directory)
    async with running(place, *(place.config(plugin) for plugin in plugins)) as agent:
        for plugin in plugins:
            assert await agent.value(plugin, "x")
        hanging = [asyncio.create_task(agent.get(plugin, "hang")) for plugin in plugins]
        await asyncio.sleep(0.5)
        print(*(agent.pid(plugin) for plugin in plugins), flush=True)
        await asyncio.sleep(1000)
        await asyncio.wait(hanging)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
