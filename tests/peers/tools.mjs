// Drives the manager's tools with the TypeScript SDK's clients, which check answers against output schemas.
//
//     node tools.mjs NODE_MODULES PACKAGE URL
//
// PACKAGE is `sdk` (1.x, handshakes only) or `client` (2.x). Prints one line of JSON.
import { createRequire } from "node:module";

const [modules, which, url] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const find = (name) => require(`@modelcontextprotocol/${name}`);
const { Client } = which === "sdk" ? find("sdk/client/index.js") : find("client");
const { StreamableHTTPClientTransport } = which === "sdk" ? find("sdk/client/streamableHttp.js") : find("client");

const client = new Client({ name: "peer", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
const name = `peer-${which}`;
const create = { name: "container_create", arguments: { service_name: name, template: "echo" } };
const created = await client.callTool(create);
const again = await client.callTool(create);
const results = {};
for (const [tool, args] of [
  ["container_list", {}], ["container_get", { name }], ["container_logs", { name }], ["container_inspect", { name }],
  ["container_stats", { name }], ["container_scale", { name, replicas: 2 }], ["template_list", {}],
  ["template_get", { name: "echo" }], ["image_list", {}], ["system_health", {}], ["system_diagnostics", {}],
  ["container_remove", { name }],
]) {
  results[tool] = (await client.callTool({ name: tool, arguments: args })).isError ?? false;
}
await client.close();
console.log(JSON.stringify({
  tools: tools.length,
  created: created.structuredContent.status,
  again: { error: again.isError, text: again.content[0].text, problem: again.structuredContent },
  results,
}));
