// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: node main.js [HOST:PORT [--pause]]; --pause waits for Enter before the photos.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const TRIES = 15;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 5000;
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

const data = (name) => readFileSync(path(`examples/data/${name}`));
const photo = (name) => request(IMAGE, { itemId: name, image: data(`photos/${name}`) });
const speech = (name) => request(AUDIO, { itemId: name, audio: data(`speech/${name}`) });
const PAIRS = [
  ["reset-password", "forgot-login"],
  ["dog-dalmatian.jpg", "dog-mastiff.jpg"],
  ["austen-0880.flac", "austen-0890.flac"],
];

// One item a message, so that each can have its model and options.
function request(model, item, options = {}) {
  return { model, items: [item], options };
}

// Streams the requests and calls onResult for each answered item, as it is ready. What has no
// answer is sent again while the server is away; embedding twice does no harm.
async function embed(client, requests, onResult) {
  const waiting = new Map(requests.map((request) => [request.items[0].itemId, request]));
  for (let attempt = 1, delay = FIRST_DELAY_MS; ; attempt++) {
    let reason;
    try {
      reason = await exchange(client, waiting, onResult);
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error;
      reason = error.details;
    }
    if (waiting.size === 0) return;
    if (attempt === TRIES) throw new Error(`given up: ${reason}`);
    console.error(`unavailable: ${reason}; again in ${delay / 1000} s`);
    await sleep(delay);
    delay = Math.min(2 * delay, MAX_DELAY_MS);
  }
}

// Runs one stream. Removes from `waiting` what was answered; returns why anything was not.
async function exchange(client, waiting, onResult) {
  const call = client.embedStream();
  let reason = "the stream ended early";
  async function send() {
    for (const request of [...waiting.values()]) {
      if (!call.write(request)) await once(call, "drain"); // the server holds us back
    }
    call.end();
  }
  async function receive() {
    for await (const { results } of call) {
      for (const result of results) {
        // In band, it means that the model is still being loaded.
        if (result.error?.code === grpc.status.UNAVAILABLE) {
          reason = result.error.message;
        } else {
          waiting.delete(result.itemId);
          onResult(result);
        }
      }
    }
  }
  await Promise.all([send(), receive()]);
  return reason;
}

// The numbers arrive as little-endian float32; the copy aligns them.
const vectorOf = (result) => new Float32Array(new Uint8Array(result.embedding.vectors[0].data).buffer);

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

async function main(address = "127.0.0.1:8001", pause = "") {
  const vectors = new Map();
  function onResult(result) {
    if (result.error) {
      console.log("error", result.itemId, grpc.status[result.error.code], result.error.message);
    } else {
      vectors.set(result.itemId, vectorOf(result));
      console.log("vector", result.itemId, vectors.get(result.itemId).length);
    }
  }
  const client = new EmbeddingService(address, grpc.credentials.createInsecure());
  await embed(client, [
    request(TEXT, { itemId: "reset-password", text: "How do I reset my password?" }),
    request(TEXT, { itemId: "forgot-login", text: "I forgot my login details." }),
    request(IMAGE, { itemId: "broken.jpg", image: Buffer.from("not a JPEG") }),
    request(TEXT, { itemId: "late", text: "Too late." }, { timeout: { nanos: 1000 } }),
  ], onResult);
  if (pause) {
    const terminal = createInterface({ input: process.stdin, output: process.stdout });
    await terminal.question("press Enter to go on\n");
    terminal.close();
  }
  await embed(client, [
    ...["dog-dalmatian.jpg", "dog-mastiff.jpg"].map(photo),
    ...["austen-0880.flac", "austen-0890.flac"].map(speech),
  ], onResult);
  for (const [a, b] of PAIRS) {
    console.log("similarity", a, b, cosine(vectors.get(a), vectors.get(b)).toFixed(6));
  }
  const deadline = Date.now() + 10_000;
  const { models } = await new Promise((resolve, reject) =>
    client.listModels({}, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply))));
  for (const { name, trained } of models) {
    if (!trained && [TEXT, IMAGE, AUDIO].includes(name)) {
      console.log("untrained", name, "has random weights, its vectors mean nothing");
    }
  }
  client.close();
}

await main(...process.argv.slice(2));
