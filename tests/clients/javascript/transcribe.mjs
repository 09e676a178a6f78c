// Transcribes raw samples (float32, 16 kHz) with the unmodified package, as a user's program would; prints JSON.
//
//   node transcribe.mjs FOLDER LOADING CALLING FILE...       (LOADING, CALLING: options as JSON)
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const [folder, loading, calling, ...files] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = `${dirname(folder)}/`;
const recognizer = await pipeline("automatic-speech-recognition", basename(folder), {
  session_options: { intraOpNumThreads: 1 },
  ...JSON.parse(loading),
});
const results = [];
for (const file of files) {
  const bytes = readFileSync(file);
  const samples = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const begin = performance.now();
  const result = await recognizer(samples, JSON.parse(calling));
  results.push({ ...result, seconds: (performance.now() - begin) / 1000 });
}
console.log(JSON.stringify(results));
