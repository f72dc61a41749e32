// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: node main.js [HOST:PORT [--pause]]; --pause waits for Enter before the photos.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { EmbeddingService, embed, vectorOf } from "./embed.js";

const TEXT = "all-MiniLM-L6-v2";
const IMAGE = "clip-vit-base-patch32";
const AUDIO = "whisper-base";
const PAIRS = [
  ["reset-password", "forgot-login"],
  ["dog-dalmatian.jpg", "dog-mastiff.jpg"],
  ["austen-0880.flac", "austen-0890.flac"],
];

// Makes a message of one item, so that each can have its model and options.
const request = (model, item, options = {}) => ({ model, items: [item], options });
const read = (name) => readFileSync(new URL(`../data/${name}`, import.meta.url));
const photo = (name) => request(IMAGE, { itemId: name, image: read(`photos/${name}`) });
const speech = (name) => request(AUDIO, { itemId: name, audio: read(`speech/${name}`) });

const sentences = [
  request(TEXT, { itemId: "reset-password", text: "How do I reset my password?" }),
  request(TEXT, { itemId: "forgot-login", text: "I forgot my login details." }),
  request(IMAGE, { itemId: "broken.jpg", image: Buffer.from("not a JPEG") }),
  request(TEXT, { itemId: "late", text: "Too late." }, { timeout: { nanos: 1000 } }),
];
const media = [
  photo("dog-dalmatian.jpg"),
  photo("dog-mastiff.jpg"),
  speech("austen-0880.flac"),
  speech("austen-0890.flac"),
];

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

const [address = "127.0.0.1:8001", pause] = process.argv.slice(2);
const client = new EmbeddingService(address, grpc.credentials.createInsecure());
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
for (const [a, b] of PAIRS) {
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
