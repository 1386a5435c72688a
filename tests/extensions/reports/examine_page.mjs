// Opens the page of the first argument at each width and in each color scheme, and prints what the browser reports as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const require = createRequire(`${process.cwd()}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath: process.argv[3], args: ["--no-sandbox"] });
const results = [];
for (const width of [390, 1280]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    const messages = [], requests = [];
    page.on("console", (message) => messages.push(message.text()));
    page.on("pageerror", (error) => messages.push(String(error)));
    page.on("dialog", (dialog) => { messages.push("dialog"); dialog.dismiss(); });
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(process.argv[2]);
    const state = await page.evaluate(() => ({
      title: document.title,
      scrollWidth: document.documentElement.scrollWidth,
      scripts: document.scripts.length,
      handlers: [...document.querySelectorAll("*")].flatMap((e) => e.getAttributeNames()).filter((n) => n.startsWith("on")),
      background: getComputedStyle(document.body).backgroundColor,
      overflowing: [...document.querySelectorAll("body *")]
        .filter((e) => !e.closest(".hidden, .skip, thead") && e.getBoundingClientRect().right > innerWidth + 1)
        .map((e) => e.outerHTML.slice(0, 120)),
      headings: [...document.querySelectorAll("h2[id]")].map((e) => e.id),
    }));
    await page.evaluate(axe);
    const { violations, incomplete } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations", "incomplete"] }));
    const describe = ({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html).join(" ")}`;
    results.push({ width, colorScheme, messages, requests, ...state, violations: violations.map(describe), incomplete: incomplete.map(describe) });
    await context.close();
  }
}
await browser.close();
process.stdout.write(JSON.stringify(results));
