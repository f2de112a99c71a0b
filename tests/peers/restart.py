"""The Python SDK's client over a restart of the manager.

    restart.py MODE http://HOST:PORT/mcp

MODE is `legacy` or a revision. Prints how many tools there are as one line of JSON, waits for a line on standard input,
which says that the manager has been restarted, and prints what the same client gets then (`tools` or `refused`) and what
a new one gets (`anew`).
"""

import asyncio
import json
import sys

from mcp import Client


async def count(client) -> int:
    return len((await client.list_tools()).tools)


async def main() -> None:
    mode, url = sys.argv[1:]
    told = {}
    # A list that was kept would say nothing.
    async with Client(url, mode=mode, cache=None) as client:
        print(json.dumps({"tools": await count(client)}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        try:
            told["tools"] = await count(client)
        except Exception as error:
            told["refused"] = str(error)
    async with Client(url, mode=mode) as client:
        told["anew"] = await count(client)
    print(json.dumps(told), flush=True)


asyncio.run(main())
