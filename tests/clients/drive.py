"""Drives an MCP server with the Python SDK: `drive.py URL ERA CALLS`.

ERA is `old` (initialize) or `new` (revision 2026-07-28, without asking first). CALLS is JSON: a list of
{"tool", "arguments", "expect"}, where the text of the answer must contain "expect". Questions of the server are
answered. Says what went wrong and exits with another status than 0.
"""

import asyncio
import json
import sys

import mcp_types as types
from mcp import Client


def fill_in(schema):
    """A value for each property of a form."""
    values = {"string": "text", "integer": 3, "number": 2.5, "boolean": True}
    filled = {}
    for name, kind in schema.get("properties", {}).items():
        if kind.get("type") == "array":
            continue
        choices = kind.get("enum") or [choice["const"] for choice in kind.get("oneOf", [])]
        filled[name] = kind.get("default", choices[0] if choices else values.get(kind.get("type"), "text"))
    return filled


async def elicit(_context, params):
    return types.ElicitResult(action="accept", content=fill_in(params.requested_schema))


async def sample(_context, _params):
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="sampled"), model="none")


async def roots(_context):
    return types.ListRootsResult(roots=[])


async def drive(url, era, calls):
    progress = []

    async def on_progress(done, total, message):
        progress.append(done)

    revision = "2026-07-28"
    client = Client(
        url,
        mode="legacy" if era == "old" else revision,
        elicitation_callback=elicit,
        sampling_callback=sample,
        list_roots_callback=roots,
        read_timeout_seconds=30,
    )
    async with client:
        assert (client.protocol_version == revision) == (era == "new"), f"it speaks {client.protocol_version}"
        names = {tool.name for tool in (await client.list_tools()).tools}
        for call in calls:
            assert call["tool"] in names, f"no tool {call['tool']} among {sorted(names)}"
            result = await client.call_tool(call["tool"], call["arguments"], progress_callback=on_progress)
            text = " ".join(block.text for block in result.content if block.type == "text")
            assert call["expect"] in text, f"{call['tool']} answered {text!r}, not {call['expect']!r}"
            if call.get("progress"):
                assert progress, f"{call['tool']} reported no progress"
    print(f"{len(names)} tools, {len(calls)} calls")


asyncio.run(drive(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
