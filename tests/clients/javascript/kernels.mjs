// Least processor time of models in onnxruntime-web, in milliseconds: the plain WebAssembly build on one thread.
//
//   node kernels.mjs FOLDER
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
const files = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const ort = await import(new URL("ort.wasm.min.mjs", files));
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { mjs: new URL("ort-wasm-simd-threaded.mjs", files).href };
ort.env.wasm.wasmBinary = readFileSync(new URL("ort-wasm-simd-threaded.wasm", files));

for (const name of readdirSync(folder).sort()) {
  const session = await ort.InferenceSession.create(readFileSync(join(folder, name)));
  const [rows, columns] = name.match(/\d+/g).map(Number);
  for (const steps of columns > 10_000 ? [1] : [1, 1500]) {
    const x = new ort.Tensor("float32", Float32Array.from({ length: steps * rows }, Math.random), [1, steps, rows]);
    let least = Infinity;
    for (let run = 0; run < (steps === 1 ? 40 : 5); run++) {
      const begin = process.cpuUsage();
      await session.run({ x });
      const { user, system } = process.cpuUsage(begin);
      least = Math.min(least, (user + system) / 1000);
    }
    console.log(`${name.replace(".onnx", "")}, ${steps} rows: ${least.toFixed(2)} ms`);
  }
}
