// Opens the page of a bundle in headless Chromium, gives it files, and prints what happened as JSON.
//
//   node page.mjs CHROMIUM URL FILE...
//
// SPOKEN=FILE.wav SPOKEN_SECONDS=N: the microphone hears that file for so long. SCREENSHOT=FILE.png: how it looks.
import { readFileSync, readdirSync } from "node:fs";
import puppeteer from "puppeteer-core";

// Processor time of this browser's processes for pages, in seconds: on a busy machine it says more than a clock.
function processorSeconds(browser) {
  const processes = new Map();
  for (const pid of readdirSync("/proc").map(Number).filter(Boolean)) {
    try {
      const [, , , parent, ...fields] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/\(.*\)/, "name").split(" ");
      const isPage = readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer");
      processes.set(pid, { parent: Number(parent), ticks: isPage ? Number(fields[9]) + Number(fields[10]) : 0 });
    } catch {
      // It has just ended.
    }
  }
  const isOurs = (pid) => pid === browser || (processes.has(pid) && isOurs(processes.get(pid).parent));
  return [...processes].reduce((sum, [pid, { ticks }]) => sum + (isOurs(pid) ? ticks : 0), 0) / 100;
}

const [executablePath, url, ...files] = process.argv.slice(2);
const { SCREENSHOT, SPOKEN, SPOKEN_SECONDS } = process.env;
const microphone = SPOKEN ? [`--use-file-for-fake-audio-capture=${SPOKEN}%noloop`] : [];
const browser = await puppeteer.launch({
  executablePath,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    ...microphone,
  ],
  protocolTimeout: 600_000,
});
try {
  const page = await browser.newPage();
  const seen = { requests: [], errors: [], texts: {}, seconds: {}, processor: {} };
  // Requests of workers, too: the browser's own log of the network.
  const watch = async (target) => {
    const session = await target.createCDPSession();
    await session.send("Network.enable");
    session.on("Network.requestWillBeSent", ({ request }) => seen.requests.push(request.url));
    session.on("Network.loadingFailed", ({ errorText, blockedReason }) => seen.errors.push(blockedReason ?? errorText));
  };
  await watch(page.target());
  browser.on("targetcreated", (target) => watch(target).catch(() => {}));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  const begin = Date.now();
  await page.goto(url);
  await page.waitForFunction(() => document.body.dataset.state, { timeout: 300_000 });
  seen.state = await page.evaluate(() => document.body.dataset.state);
  seen.loaded = (Date.now() - begin) / 1000;
  seen.isolated = await page.evaluate(() => crossOriginIsolated);
  seen.bytes = await page.evaluate(() =>
    performance.getEntriesByType("resource").reduce((sum, entry) => sum + entry.encodedBodySize, 0),
  );
  const input = await page.$("#file");
  for (const file of files) {
    const before = processorSeconds(browser.process().pid);
    await input.uploadFile(file);
    await page.waitForFunction(
      () => !document.getElementById("error").hidden || document.querySelector("#results li")?.dataset.done,
      { timeout: 300_000 },
    );
    const [error, text, seconds] = await page.evaluate(() => {
      const first = document.querySelector("#results li");
      const error = document.getElementById("error");
      return [error.hidden ? null : error.textContent, first?.querySelector(".text").textContent, first?.dataset.seconds];
    });
    seen.texts[file] = error ?? text;
    seen.seconds[file] = Number(seconds);
    seen.processor[file] = processorSeconds(browser.process().pid) - before;
  }
  if (SPOKEN) {
    await page.click("#speak");
    await new Promise((resolve) => setTimeout(resolve, Number(SPOKEN_SECONDS) * 1000));
    await page.click("#speak");
    await page.waitForFunction(() => document.querySelector("#results li")?.dataset.done, { timeout: 300_000 });
    seen.spoken = await page.evaluate(() => document.querySelector("#results li .text").textContent);
  }
  if (SCREENSHOT) await page.screenshot({ path: SCREENSHOT, fullPage: true });
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
