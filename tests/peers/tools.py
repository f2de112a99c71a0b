"""Drives the manager's tools with the Python SDK's client, which checks answers against output schemas by itself.

    tools.py http://HOST:PORT/mcp MODE      over HTTP
    tools.py stdio PROGRAM URL MODE         over standard input and output

MODE is `legacy` or a revision. The manager must ask for confirmation of container_remove. Prints one line of JSON.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import ElicitResult

asked = []


async def confirm(_context, params):
    asked.append(params.message)
    return ElicitResult(action="accept", content={"confirm": True})


async def main() -> None:
    *target, mode = sys.argv[1:]
    if target[0] == "stdio":
        transport = stdio_client(StdioServerParameters(command=target[1], args=["mcp"], env={"MCP_MANAGER_SERVER": target[2]}))
    else:
        transport = target[0]
    progress = []

    async def on_progress(done, _total, message):
        progress.append((done, message))

    async with Client(transport, mode=mode, elicitation_callback=confirm) as client:
        tools = (await client.list_tools()).tools
        name = f"peer-{mode.replace('-', '')}-{len(target)}"
        create = {"service_name": name, "template": "echo"}
        created = await client.call_tool("container_create", create, progress_callback=on_progress)
        again = await client.call_tool("container_create", create)
        logs = await client.call_tool("container_logs", {"name": name, "tail": 3})
        removed = await client.call_tool("container_remove", {"name": name})
        print(json.dumps({
            "tools": [tool.name for tool in tools],
            "read_only": [tool.name for tool in tools if tool.annotations.read_only_hint],
            "created": created.structured_content["status"],
            "progress": len(progress),
            "again": {"error": again.is_error, "text": again.content[0].text, "problem": again.structured_content},
            "lines": len(logs.structured_content["lines"]),
            "removed": removed.structured_content,
            "asked": len(asked),
        }))


asyncio.run(main())
