// Drives an MCP server with the TypeScript SDK: `drive.mjs URL ERA CALLS SDK`.
//
// ERA is `old` (initialize) or `new` (revision 2026-07-28). CALLS is JSON: a list of {tool, arguments, expect}, where
// the text of the answer must contain "expect". SDK is 1 (npm @modelcontextprotocol/sdk, the older era only) or 2
// (@modelcontextprotocol/client). Questions of the server are answered. Says what went wrong and exits with another
// status than 0.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, era, calls, sdk] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4]), process.argv[5]];
// The packages lie in the folder that CLIENTS names, not beside this file.
const require = createRequire(`${process.env.CLIENTS}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));

const capabilities = { elicitation: {}, sampling: {}, roots: {} };
const identity = { name: "drive", version: "1" };

function fillIn(schema) {
  const values = { string: "text", integer: 3, number: 2.5, boolean: true };
  const filled = {};
  for (const [name, kind] of Object.entries(schema.properties ?? {})) {
    if (kind.type === "array") continue;
    const choices = kind.enum ?? kind.oneOf?.map((choice) => choice.const);
    filled[name] = kind.default ?? choices?.[0] ?? values[kind.type] ?? "text";
  }
  return filled;
}

const elicit = async (request) => ({ action: "accept", content: fillIn(request.params.requestedSchema) });
const sample = async () => ({ role: "assistant", content: { type: "text", text: "sampled" }, model: "none" });
const roots = async () => ({ roots: [] });

let client, transport;
if (sdk === "1") {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const types = await load("@modelcontextprotocol/sdk/types.js");
  client = new Client(identity, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, elicit);
  client.setRequestHandler(types.CreateMessageRequestSchema, sample);
  client.setRequestHandler(types.ListRootsRequestSchema, roots);
  transport = new StreamableHTTPClientTransport(new URL(url));
} else {
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  const mode = era === "old" ? "legacy" : { pin: "2026-07-28" };
  client = new Client(identity, { capabilities, versionNegotiation: { mode } });
  client.setRequestHandler("elicitation/create", elicit);
  client.setRequestHandler("sampling/createMessage", sample);
  client.setRequestHandler("roots/list", roots);
  transport = new StreamableHTTPClientTransport(new URL(url));
}

function insist(holds, what) {
  if (!holds) throw new Error(what);
}

await client.connect(transport);
const names = (await client.listTools()).tools.map((tool) => tool.name);
for (const call of calls) {
  insist(names.includes(call.tool), `no tool ${call.tool} among ${names}`);
  const progress = [];
  const params = { name: call.tool, arguments: call.arguments };
  const options = { timeout: 30_000, onprogress: (report) => progress.push(report) };
  const result = sdk === "1" ? await client.callTool(params, undefined, options) : await client.callTool(params, options);
  const text = result.content.map((block) => block.text ?? "").join(" ");
  insist(text.includes(call.expect), `${call.tool} answered ${JSON.stringify(text)}, not ${JSON.stringify(call.expect)}`);
  insist(!call.progress || progress.length > 0, `${call.tool} reported no progress`);
}
await transport.terminateSession?.();
await client.close();
console.log(`${names.length} tools, ${calls.length} calls`);
