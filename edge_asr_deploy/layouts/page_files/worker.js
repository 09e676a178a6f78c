// Loads the model and runs it, beside the page, so that the page never stands still.
import { Tensor, TextStreamer, env, pipeline } from "./runtime/transformers.min.js";

const RATE = 16000;
// A window of Whisper is 30 s; longer audio is cut where it is quietest near the end of a window.
const [LONGEST, SEARCHED, FRAME] = [28 * RATE, 6 * RATE, RATE / 10];
// Milliseconds between two states of a text that are shown.
const PAUSE = 200;
const here = (path) => new URL(path, import.meta.url).href;
const tell = (kind, message = {}) => postMessage({ kind, ...message });

let index = null;
let loaded = 0;
let shown = 0;

// The bytes of a stored file: they lie packed (gzip), unless the server has unpacked them already.
async function stored(name) {
  const entry = index.files[name];
  const response = await fetch(here(entry.path));
  if (!response.ok) throw new Error(`${entry.path} cannot be loaded (${response.status} ${response.statusText})`);
  const counted = new TransformStream({
    transform(chunk, controller) {
      loaded += chunk.length;
      if (loaded - shown > 2e5 || loaded === index.bytes) tell("loading", { loaded: Math.min((shown = loaded), index.bytes), total: index.bytes });
      controller.enqueue(chunk);
    },
  });
  const bytes = new Uint8Array(await new Response(response.body.pipeThrough(counted)).arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

// Where transformers.js asks for a file of the model, it gets ours; it never asks the network itself. It asks for some
// twice, to see whether they are there.
const asked = new Map();
async function fetched(url) {
  const name = String(url).split("model/").pop();
  if (!(name in index.files)) return new Response(null, { status: 404 });
  if (!asked.has(name)) asked.set(name, stored(name));
  const bytes = await asked.get(name);
  return new Response(bytes, { headers: { "content-length": String(bytes.length) } });
}

// Whisper's log-mel of a whole window takes 0.2 s, most of it for silence behind a short clip: every such frame is equal.
function withoutSilence(extractor) {
  const { hop_length: hop, nb_max_frames: frames, feature_size: bands } = extractor.config;
  if (!frames) return;
  const whole = extractor._call.bind(extractor);
  extractor._call = async (audio) => {
    // Three frames more: the last one reaches no sample of the clip.
    const heard = Math.ceil(audio.length / hop) + 3;
    if (heard >= frames) return whole(audio);
    const { data } = (await whole(audio, { max_length: heard * hop })).input_features;
    const features = new Float32Array(bands * frames);
    for (let band = 0; band < bands; band++) {
      features.fill(data[(band + 1) * heard - 1], band * frames, (band + 1) * frames);
      features.set(data.subarray(band * heard, (band + 1) * heard), band * frames);
    }
    return { input_features: new Tensor("float32", features, [1, bands, frames]) };
  };
}

async function load() {
  const begin = performance.now();
  index = await (await fetch(here("files.json"), { cache: "no-cache" })).json();
  tell("about", index);
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "./" });
  Object.assign(env, { useBrowserCache: false, useWasmCache: false, fetch: fetched });
  const { wasm } = env.backends.onnx;
  wasm.wasmPaths = { mjs: here("runtime/ort-wasm-simd-threaded.mjs"), wasm: here("runtime/ort-wasm-simd-threaded.wasm") };
  wasm.wasmBinary = await stored("ort-wasm-simd-threaded.wasm");
  let opening = false;
  const recognizer = await pipeline("automatic-speech-recognition", "model", {
    device: "wasm",
    progress_callback: () => {
      if (!opening && loaded >= index.bytes) opening = (tell("opening"), true);
    },
  });
  withoutSilence(recognizer.processor.feature_extractor);
  asked.clear();
  tell("ready", { seconds: (performance.now() - begin) / 1000 });
  return recognizer;
}

function energy(samples, begin) {
  let sum = 0;
  for (let at = begin; at < begin + FRAME; at++) sum += samples[at] ** 2;
  return sum;
}

function windows(samples) {
  const found = [];
  let begin = 0;
  while (samples.length - begin > LONGEST) {
    let best = begin + LONGEST - FRAME;
    let least = Infinity;
    for (let at = begin + LONGEST - SEARCHED; at <= begin + LONGEST - FRAME; at += FRAME) {
      const value = energy(samples, at);
      if (value < least) [least, best] = [value, at];
    }
    found.push(samples.subarray(begin, best + FRAME / 2));
    begin = best + FRAME / 2;
  }
  return [...found, samples.subarray(begin)];
}

async function transcribe({ id, samples, language }) {
  const recognizer = await recognizing;
  const begin = performance.now();
  let [text, last] = ["", begin];
  for (const window of windows(samples)) {
    let partial = "";
    const streamer = new TextStreamer(recognizer.tokenizer, {
      skip_prompt: true,
      skip_special_tokens: true,
      callback_function: (piece) => {
        partial += piece;
        // Drawing takes time that the model could have.
        if (performance.now() - last < PAUSE) return;
        last = performance.now();
        tell("partial", { id, text: `${text} ${partial.trim()}`.trim() });
      },
    });
    const options = { streamer, ...(index.languages.length ? { language } : {}) };
    // Moonshine repeats itself without a cap; the pipeline's own gives none to the last part of a second.
    if (index.tokens) options.max_new_tokens = Math.floor((window.length / RATE) * index.tokens[0]) + index.tokens[1];
    const result = await recognizer(window, options);
    text = `${text} ${result.text.trim()}`.trim();
  }
  tell("text", { id, text, audio: samples.length / RATE, seconds: (performance.now() - begin) / 1000 });
}

const words = (error) => String(error?.message ?? error).slice(0, 300);
const recognizing = load();
recognizing.catch((error) => tell("failed", { message: `The model cannot be loaded: ${words(error)}` }));
// One after the other: a session runs one input at a time.
let last = Promise.resolve();
onmessage = ({ data }) => {
  last = last.then(() => transcribe(data)).catch((error) => tell("failed", { id: data.id, message: `It failed: ${words(error)}` }));
};
