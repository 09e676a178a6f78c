// What the user sees. Samples go to the worker, texts come back; nothing goes anywhere else.
const RATE = 16000;
const at = (id) => document.getElementById(id);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const cards = new Map();
let next = 0;
let ready = false;
let recording = null;

const worker = new Worker("worker.js", { type: "module" });

function fail(message) {
  at("error").textContent = message;
  at("error").hidden = false;
}

function say(text, part = null) {
  at("status").textContent = text;
  at("bar").hidden = part === null;
  if (part !== null) at("bar").value = part;
}

const heard = {
  about({ name, languages }) {
    at("model").textContent = `${name}.`;
    for (const [code, label] of languages) at("language").append(new Option(label, code));
    at("language-field").hidden = !languages.length;
    at("language").value = "en";
  },
  loading({ loaded, total }) {
    say(`Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`, loaded / total);
  },
  opening() {
    say("Opening the model …");
    at("bar").hidden = false;
    at("bar").removeAttribute("value");
  },
  ready({ seconds }) {
    ready = true;
    at("bar").value = 1;
    say(waiting() ? "Transcribing …" : `Ready, loaded in ${seconds.toFixed(1)} s.`);
    document.body.dataset.state = "ready";
  },
  partial({ id, text }) {
    cards.get(id).querySelector(".text").textContent = text;
  },
  text({ id, text, seconds, audio }) {
    const card = cards.get(id);
    card.querySelector(".text").textContent = text || "(no speech)";
    card.querySelector(".soft").textContent = `${audio.toFixed(1)} s of audio in ${seconds.toFixed(1)} s`;
    card.querySelector(".copy").disabled = !text;
    card.dataset.seconds = seconds;
    card.dataset.done = "true";
    card.classList.remove("busy");
    if (!waiting()) say("Ready.");
  },
  failed({ id, message }) {
    const card = id === undefined ? null : cards.get(id);
    if (card) card.remove();
    else {
      at("loading").hidden = true;
      document.body.dataset.state = "failed";
    }
    fail(message);
  },
};
const waiting = () => document.querySelector("#results .busy") !== null;
worker.onmessage = ({ data }) => heard[data.kind](data);
worker.onerror = (event) => heard.failed({ message: `The page cannot start: ${event.message || "its worker did not load"}` });

function card(name) {
  const id = next++;
  const item = at("result").content.cloneNode(true).firstElementChild;
  item.querySelector("strong").textContent = name;
  item.querySelector(".soft").textContent = ready ? "transcribing …" : "waits for the model …";
  item.classList.add("busy");
  item.querySelector(".copy").onclick = async ({ target }) => {
    await navigator.clipboard.writeText(item.querySelector(".text").textContent);
    target.textContent = "Copied";
    setTimeout(() => (target.textContent = "Copy"), 1500);
  };
  at("results").prepend(item);
  cards.set(id, item);
  return id;
}

// One channel at 16 kHz: the browser's decoder resamples to the rate of its context.
async function samplesOf(blob) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const audio = await context.decodeAudioData(await blob.arrayBuffer());
  const mixed = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const data = audio.getChannelData(channel);
    for (let index = 0; index < mixed.length; index++) mixed[index] += data[index] / audio.numberOfChannels;
  }
  return mixed;
}

async function transcribe(name, blob) {
  at("error").hidden = true;
  const id = card(name);
  let samples;
  try {
    samples = await samplesOf(blob);
  } catch {
    heard.failed({ id, message: `${name}: this browser cannot read it as audio; try WAV, FLAC or MP3.` });
    return;
  }
  if (ready) say("Transcribing …");
  worker.postMessage({ id, samples, language: at("language").value || null }, [samples.buffer]);
}

at("choose").onclick = () => at("file").click();
at("file").onchange = () => {
  for (const file of at("file").files) transcribe(file.name, file);
  at("file").value = "";
};
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  for (const file of event.dataTransfer.files) transcribe(file.name, file);
});

function pressed(on) {
  at("speak").setAttribute("aria-pressed", String(on));
  at("speak").querySelector("span").textContent = on ? "Stop" : "Speak";
  at("level").hidden = !on;
}

// The level moves with the voice, so that a muted microphone is seen at once.
function show(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const wave = new Float32Array(analyser.fftSize);
  const draw = () => {
    if (context.state === "closed") return;
    analyser.getFloatTimeDomainData(wave);
    at("level").value = Math.min(1, 3 * Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length));
    requestAnimationFrame(draw);
  };
  draw();
  return context;
}

at("speak").onclick = async () => {
  if (recording) return recording.stop();
  at("error").hidden = true;
  if (!navigator.mediaDevices) {
    return fail("The microphone needs https or localhost; choose a file instead.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch (error) {
    const reason = error.name === "NotAllowedError" ? "is not allowed; allow it in the address bar" : "cannot be opened";
    return fail(`The microphone ${reason} (${error.name}).`);
  }
  const pieces = [];
  const context = show(stream);
  recording = new MediaRecorder(stream);
  recording.ondataavailable = ({ data }) => pieces.push(data);
  recording.onstop = () => {
    const type = recording.mimeType;
    recording = null;
    pressed(false);
    context.close();
    for (const track of stream.getTracks()) track.stop();
    transcribe(`Microphone, ${new Date().toLocaleTimeString()}`, new Blob(pieces, { type }));
  };
  recording.start();
  pressed(true);
};
