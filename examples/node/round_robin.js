// Embeds each line of its input, on the next server every time, and counts.
// Usage: node round_robin.js HOST:PORT,HOST:PORT
import { createInterface } from "node:readline/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const definition = loadSync("vecserve/v1/embedding.proto", { includeDirs: [protos] });
const { EmbeddingService } = grpc.loadPackageDefinition(definition).vecserve.v1;

const client = new EmbeddingService(
  `ipv4:${process.argv[2]}`, // where one DNS name has all the addresses, "dns:///NAME:PORT"
  grpc.credentials.createInsecure(),
  { "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }) },
);
const embed = promisify(client.embed.bind(client));
let count = 0;
for await (const text of createInterface({ input: process.stdin })) {
  const request = { model: "all-MiniLM-L6-v2", items: [{ text }] };
  const { results } = await embed(request, { deadline: Date.now() + 10_000 });
  if (results[0].error) throw new Error(results[0].error.message);
  console.log("ok", ++count);
}
client.close();
