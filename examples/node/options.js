// Embeds a query and a passage, each with its prompt, as 128 numbers of one byte, and compares them.
// Usage: node options.js [HOST:PORT]
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { EmbeddingService } from "./embed.js";

const [address = "127.0.0.1:8001"] = process.argv.slice(2);
const client = new EmbeddingService(address, grpc.credentials.createInsecure());
const call = promisify(client.embed.bind(client));

// Options are those of a message. A model that lists prompts takes their names, such as
// { inputType: "query" }; this one lists none, and was not trained to be cut.
async function embed(text, prompt) {
  const options = {
    prompt,
    dimensions: 128,
    forceDimensions: true,
    outputDtype: "DATA_TYPE_INT8",
  };
  const message = { model: "all-MiniLM-L6-v2", items: [{ text }], options };
  const { results } = await call(message, { deadline: Date.now() + 10_000 });
  const [{ error, embedding }] = results;
  if (error) throw new Error(error.message);
  return embedding.vectors[0];
}

const query = await embed("How do I reset my password?", "query: ");
const passage = await embed("Click on Forgot password.", "passage: ");
for (const [name, { data, scale }] of Object.entries({ query, passage })) {
  // Multiplied by its scale, a byte is the number that float32 would have.
  const numbers = Array.from(new Int8Array(data), (number) => number * scale);
  console.log("vector", name, numbers.length, numbers[0].toFixed(6));
}
// A cosine needs no scale.
const dot = (x, y) => new Int8Array(x).reduce((sum, value, i) => sum + value * y.readInt8(i), 0);
const [a, b] = [query.data, passage.data];
const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
console.log("similarity", "query", "passage", cosine.toFixed(6));
client.close();
