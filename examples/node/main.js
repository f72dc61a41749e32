// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: node main.js [HOST:PORT [--pause]]; --pause waits for Enter before the photos.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const TEXT = "all-MiniLM-L6-v2";
const IMAGE = "clip-vit-base-patch32";
const AUDIO = "whisper-base";

// No code to generate: the protos are read at run time.
const path = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const definition = loadSync("vecserve/v1/embedding.proto", {
  includeDirs: [path("protos")],
  arrays: true,
  enums: String,
  oneofs: true,
});
const { EmbeddingService } = grpc.loadPackageDefinition(definition).vecserve.v1;

// Yields the result of each request as it is ready. What has none is sent again while the server
// is away, for about a minute; embedding twice does no harm.
async function* embed(client, requests) {
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
function vectorOf(result) {
  return new Float32Array(new Uint8Array(result.embedding.vectors[0].data).buffer);
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

// Makes a message of one item, so that each can have its model and options.
const request = (model, item, options = {}) => ({ model, items: [item], options });
const data = (name) => readFileSync(path(`examples/data/${name}`));
const photo = (name) => request(IMAGE, { itemId: name, image: data(`photos/${name}`) });
const speech = (name) => request(AUDIO, { itemId: name, audio: data(`speech/${name}`) });

async function main(address = "127.0.0.1:8001", pause = "") {
  const client = new EmbeddingService(address, grpc.credentials.createInsecure());
  const sentences = [
    request(TEXT, { itemId: "reset-password", text: "How do I reset my password?" }),
    request(TEXT, { itemId: "forgot-login", text: "I forgot my login details." }),
    request(IMAGE, { itemId: "broken.jpg", image: Buffer.from("not a JPEG") }),
    request(TEXT, { itemId: "late", text: "Too late." }, { timeout: { nanos: 1000 } }),
  ];
  const media = [
    ...["dog-dalmatian.jpg", "dog-mastiff.jpg"].map(photo),
    ...["austen-0880.flac", "austen-0890.flac"].map(speech),
  ];
  const vectors = new Map();
  for (const round of [sentences, media]) {
    if (pause && round === media) {
      const terminal = createInterface({ input: process.stdin, output: process.stdout });
      await terminal.question("press Enter to go on\n");
      terminal.close();
    }
    for await (const result of embed(client, round)) {
      if (result.error) {
        console.log("error", result.itemId, grpc.status[result.error.code], result.error.message);
      } else {
        vectors.set(result.itemId, vectorOf(result));
        console.log("vector", result.itemId, vectors.get(result.itemId).length);
      }
    }
  }
  for (const [a, b] of [
    ["reset-password", "forgot-login"],
    ["dog-dalmatian.jpg", "dog-mastiff.jpg"],
    ["austen-0880.flac", "austen-0890.flac"],
  ]) {
    console.log("similarity", a, b, cosine(vectors.get(a), vectors.get(b)).toFixed(6));
  }
  const listModels = promisify(client.listModels.bind(client));
  const { models } = await listModels({}, { deadline: Date.now() + 10_000 });
  for (const { name, trained } of models) {
    if (!trained && [TEXT, IMAGE, AUDIO].includes(name)) {
      console.log("untrained", name, "has random weights, its vectors mean nothing");
    }
  }
  client.close();
}

await main(...process.argv.slice(2));
