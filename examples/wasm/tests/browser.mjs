// Opens the page in a browser without a window, draws digits with the mouse, and prints what the page says of each: node browser.mjs BROWSER

import { spawn } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Strokes on 256×256.
const arc = (x, y, rx, ry, from, to) =>
  Array.from({ length: 25 }, (_, k) => {
    const a = ((from + ((to - from) * k) / 24) * Math.PI) / 180;
    return [x + rx * Math.cos(a), y + ry * Math.sin(a)];
  });
const DIGITS = {
  0: [arc(128, 128, 50, 85, -90, 270)],
  1: [[[100, 75], [135, 40], [135, 215]]],
  2: [[...arc(125, 85, 50, 45, -170, 40), [80, 210], [185, 210]]],
  3: [[...arc(120, 83, 45, 42, -150, 90), ...arc(120, 170, 50, 45, -90, 150)]],
  4: [[[150, 35], [75, 150], [190, 150]], [[155, 95], [150, 220]]],
  7: [[[75, 45], [180, 45], [115, 215]]],
};

const TYPES = { html: "text/html", js: "text/javascript", wasm: "application/wasm" };
const server = createServer((request, response) => {
  const name = request.url === "/" ? "index.html" : request.url.slice(1);
  response.setHeader("Content-Type", TYPES[name.split(".").pop()] ?? "text/plain");
  createReadStream(new URL(`../page/${name}`, import.meta.url))
    .on("error", () => response.writeHead(404).end())
    .pipe(response);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

// The browser's debugging protocol: JSON texts on two pipes, each ended by a zero.
const profile = mkdtempSync(join(tmpdir(), "qgraph-browser-"));
const browser = spawn(
  process.argv[2],
  ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);
const [, , , to, from] = browser.stdio;
const waiting = new Map();
let text = "";
from.setEncoding("utf8").on("data", (data) => {
  const messages = (text + data).split("\0");
  text = messages.pop();
  for (const { id, result, error } of messages.map((m) => JSON.parse(m))) {
    const { done, fail } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) fail?.(new Error(error.message));
    else done?.(result);
  }
});
let last = 0;
function send(method, params = {}, sessionId = undefined) {
  const id = ++last;
  to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return new Promise((done, fail) => waiting.set(id, { done, fail }));
}

const fail = (message) => {
  console.error(`browser: ${message}`);
  process.exit(1);
};
browser.on("error", (e) => fail(e.message));
browser.on("exit", (code) => fail(`the browser ended with ${code}`));
setTimeout(() => fail("no answer for two minutes"), 120_000).unref();

const { targetId } = await send("Target.createTarget", { url: `http://127.0.0.1:${server.address().port}/` });
const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
const tell = (method, params) => send(method, params, sessionId);
async function evaluate(expression) {
  const { result, exceptionDetails } = await tell("Runtime.evaluate", { expression, returnByValue: true });
  if (exceptionDetails) fail(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}
while (!(await evaluate("document.body?.dataset.ready"))) await new Promise((later) => setTimeout(later, 50));
const box = await evaluate("drawing.getBoundingClientRect().toJSON()");
for (const [digit, strokes] of Object.entries(DIGITS)) {
  await evaluate("clear.click()");
  if ((await evaluate("digit.textContent")) !== "") fail("an empty drawing is no digit");
  for (const stroke of strokes) {
    const mouse = (type, [x, y]) =>
      tell("Input.dispatchMouseEvent", { type, x: box.x + x, y: box.y + y, button: "left", buttons: 1, clickCount: 1 });
    await mouse("mousePressed", stroke[0]);
    for (const point of stroke) await mouse("mouseMoved", point);
    await mouse("mouseReleased", stroke.at(-1));
  }
  console.log(`drawn ${digit}, read ${await evaluate("digit.textContent")}`);
}
browser.removeAllListeners("exit");
browser.kill();
await new Promise((ended) => browser.on("exit", ended));
// Its helpers may still write there for a moment.
rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
process.exit(0);
