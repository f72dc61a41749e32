// The part to copy: embeds through a stream, sends again what has no answer, and reads the vectors.
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

// No code to generate: the protos are read at run time.
const definition = loadSync("vecserve/v1/embedding.proto", {
  includeDirs: [fileURLToPath(new URL("../../protos", import.meta.url))],
  arrays: true, // an empty list is [], not undefined
});
export const { EmbeddingService } = grpc.loadPackageDefinition(definition).vecserve.v1;

// Yields the result of each request, a message of one item, as it is ready. What has none is sent
// again while the server is away, for about a minute; embedding twice does no harm.
export async function* embed(client, requests) {
  const waiting = new Map(requests.map((request) => [request.items[0].itemId, request]));
  for (let attempt = 1; ; attempt++) {
    let reason = "a model is being loaded";
    try {
      const stream = client.embedStream();
      Readable.from([...waiting.values()]).pipe(stream); // waits while the server holds us back
      for await (const { results } of stream) {
        for (const result of results) {
          // In band, it means that the model is still being loaded: not an answer yet.
          if (result.error?.code === grpc.status.UNAVAILABLE) continue;
          waiting.delete(result.itemId);
          yield result;
        }
      }
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error;
      reason = error.details;
    }
    if (waiting.size === 0) return;
    if (attempt === 15) throw new Error(`given up: ${reason}`);
    console.error(`unavailable: ${reason}; again in ${attempt / 2} s`);
    await sleep(500 * attempt);
  }
}

// The numbers arrive as little-endian float32; the copy aligns them.
export function vectorOf(result) {
  return new Float32Array(new Uint8Array(result.embedding.vectors[0].data).buffer);
}
