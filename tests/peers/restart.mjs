// The TypeScript SDK's clients over a restart of the manager.
//
//     node restart.mjs NODE_MODULES PACKAGE URL
//
// PACKAGE is `sdk` (1.x) or `client` (2.x). Prints how many tools there are as one line of JSON, waits for a line on standard
// input, which says that the manager has been restarted, and prints what the same client gets then (`tools` or `refused`)
// and what a new one gets (`anew`).
import { once } from "node:events";
import { createRequire } from "node:module";

const [modules, which, url] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const find = (name) => require(`@modelcontextprotocol/${name}`);
const { Client } = which === "sdk" ? find("sdk/client/index.js") : find("client");
const { StreamableHTTPClientTransport } = which === "sdk" ? find("sdk/client/streamableHttp.js") : find("client");

async function connected() {
  const client = new Client({ name: "peer", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client;
}
const count = async (client) => (await client.listTools()).tools.length;

const client = await connected();
console.log(JSON.stringify({ tools: await count(client) }));
await once(process.stdin, "data");
const told = {};
try {
  told.tools = await count(client);
} catch (error) {
  told.refused = String(error);
}
await client.close();
const another = await connected();
told.anew = await count(another);
await another.close();
console.log(JSON.stringify(told));
process.exit(0);
