// Opens the page of a bundle in headless Chromium, gives it files, and prints what happened as JSON.
//
//   node page.mjs CHROMIUM URL FILE...
import puppeteer from "puppeteer-core";

const [executablePath, url, ...files] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"],
  protocolTimeout: 600_000,
});
try {
  const page = await browser.newPage();
  const seen = { requests: [], errors: [], texts: {}, seconds: {} };
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
  }
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
