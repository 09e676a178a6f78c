// Opens a page of the guide in headless Chromium, gives it a file, and prints the text as JSON. What the page loads from
// a content delivery network comes from `node_modules` instead, byte for byte the same.
//
//   node block.mjs CHROMIUM URL FILE
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [executablePath, url, file] = process.argv.slice(2);
const CDN = "https://cdn.jsdelivr.net/npm/";
const packages = new URL("node_modules/", import.meta.url);
const browser = await puppeteer.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  protocolTimeout: 600_000,
});
try {
  const page = await browser.newPage();
  const [errors, loaded] = [[], []];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (!request.url().startsWith(CDN)) return request.continue();
    const [, name, path] = /^((?:@[^/]+\/)?[^@/]+)@[^/]+(?:\/(.*))?$/.exec(request.url().slice(CDN.length));
    const local = path ?? JSON.parse(readFileSync(new URL(`${name}/package.json`, packages))).jsdelivr;
    const contentType = local.endsWith(".wasm") ? "application/wasm" : "text/javascript";
    loaded.push(local);
    const headers = { "Access-Control-Allow-Origin": "*" };
    return request.respond({ contentType, headers, body: readFileSync(new URL(`${name}/${local}`, packages)) });
  });
  await page.goto(url);
  await page.waitForFunction(() => document.body.dataset.state === "ready", { timeout: 300_000 });
  await (await page.$("input")).uploadFile(file);
  await page.waitForFunction(() => document.querySelector("#text").textContent, { timeout: 300_000 });
  const text = await page.evaluate(() => document.querySelector("#text").textContent);
  console.log(JSON.stringify({ text, errors, loaded }));
} finally {
  await browser.close();
}
