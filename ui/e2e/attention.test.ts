import { cpus, loadavg } from "node:os";
import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { expect, inject, test } from "vitest";
import { layoutShift, open, picture, seriousFaults, useBrowser, VIEWS } from "./browser";

useBrowser();

const PROMPT = "Near the bridge sat Noah, a brave boy";
const HERE = `#/attention?prompt=${encodeURIComponent(PROMPT)}`;
const TEXT = "[aria-label='The text, shaded by where the chosen token looks'] .token";
const LOOKS_AT = ".strongest:first-child";

interface Answer {
  fields: { probabilities: number[][][][]; entropy_nats: number[][][]; tokens: number[] };
}

async function inspect(what: string, question: object): Promise<Response> {
  return fetch(`${inject("server")}/api/inspect/${what}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(question),
  });
}

/** What an export of the page gives, as text. */
async function exported(page: Page, name: RegExp, menu: number): Promise<string> {
  await page.getByRole("button", { name: "Export" }).nth(menu).click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name }).click(),
  ]);
  return readFileSync(await download.path(), "utf8");
}

const mean = (values: number[]) => values.reduce((sum, each) => sum + each, 0) / values.length;

test("a head that is reached with arrows is shown large, with the server's numbers", async () => {
  const page = await open(HERE);
  await page.getByRole("button", { name: "layer 0, head 0" }).first().focus();
  for (const key of ["ArrowDown", "ArrowRight", "ArrowRight"]) await page.keyboard.press(key);
  await page.getByRole("heading", { name: "Layer 1, head 2" }).waitFor();
  await expect.poll(() => page.url()).toContain("layer=1&head=2");
  const focused = page.locator("[aria-selected=true] button");
  expect(await focused.evaluate((button) => button === document.activeElement)).toBe(true);

  const asked = await inspect("attention", { prompt: PROMPT });
  const { probabilities, entropy_nats } = ((await asked.json()) as Answer).fields;
  const bits = mean(entropy_nats[1]![2]!) / Math.LN2;
  await page.getByText(`entropy ${bits.toFixed(1)} bits`).waitFor();
  const last = probabilities[1]![2]!.at(-1)!;
  const saved = JSON.parse(await exported(page, /JSON/, 1)) as { weights: number[][] };
  saved.weights.at(-1)!.forEach((weight, key) => expect(weight).toBeCloseTo(last[key]!, 6));
  const shown = await page.locator(`${LOOKS_AT} .number`).first().textContent();
  expect(shown).toBe(`${(100 * Math.max(...last)).toFixed(1)} %`);
});

test("what is pointed at is the same in picture, text and lists; what is pinned stays", async () => {
  const page = await open(`${HERE}&layer=1&head=mean`);
  const large = page.locator(".large .over");
  await large.scrollIntoViewIfNeeded();
  const box = (await large.boundingBox())!;
  // Somewhere in the lower left, where every token may be looked at.
  await page.mouse.move(box.x + 0.4 * box.width, box.y + 0.8 * box.height);
  const query = page.locator(`${TEXT}[data-query]`);
  const [from, to] = [
    await query.textContent(),
    await page.locator(`${TEXT}[data-key]`).textContent(),
  ];
  expect(from).not.toBe(to);
  const label = (text: string | null) => text!.replace(/ /g, "·");
  // The lists are told once the pointer rests.
  const listed = (what: string) => page.locator(`${LOOKS_AT} ${what}`).textContent();
  await expect.poll(() => listed("h3 .mono")).toBe(label(from));
  expect(await listed(".chosen .word")).toBe(label(to));

  await page.mouse.down();
  await page.mouse.up();
  await expect.poll(() => page.url()).toMatch(/pin=\d+&pin-key=\d+/);
  await page.mouse.move(0, 0);
  await page.reload();
  await page.locator(`${TEXT}[aria-pressed=true]`).waitFor();
  expect(await query.textContent()).toBe(from);
  const svg = await exported(page, /SVG/, 0);
  expect(svg).toContain("&lt;|bos|&gt;");
  expect(svg.match(/<path /g)!.length).toBeGreaterThan(3);

  await page.locator(TEXT).first().hover();
  expect(await query.textContent()).toBe("<|bos|>");
  await page.locator(`${TEXT}[aria-pressed=true]`).focus();
  await page.keyboard.press("Escape");
  await expect.poll(() => page.url()).not.toContain("pin");
  await expect.poll(() => page.locator(`${TEXT}[aria-pressed=true]`).count()).toBe(0);
});

test("without the first token what is left of each row sums to one", async () => {
  const page = await open(`${HERE}&layer=2&head=1`);
  await page.getByText("Leave out the first token").click();
  await expect.poll(() => page.url()).toContain("sink=1");
  const { weights } = JSON.parse(await exported(page, /JSON/, 1)) as { weights: number[][] };
  for (const row of weights.slice(1)) {
    expect(row[0]).toBe(0);
    expect(row.reduce((sum, each) => sum + each)).toBeCloseTo(1, 4);
  }
});

test("a table of all heads is sorted by what is pressed, and chooses", async () => {
  const page = await open(HERE);
  const column = page.getByRole("button", { name: "entropy" });
  await column.click();
  const cells = page.locator(".numbers tbody td:nth-child(2)");
  const rising = (await cells.allTextContents()).map(Number);
  expect(rising).toEqual([...rising].sort((a, b) => a - b));
  await column.click();
  expect((await cells.allTextContents()).map(Number)).toEqual(rising.reverse());
  const name = await page.locator(".numbers tbody button").first().getAttribute("aria-label");
  await page.locator(".numbers tbody button").first().click();
  const title = new RegExp(name!.replace(/^.*: /, ""), "i");
  await page.locator("#head-title", { hasText: title }).waitFor();
});

test("of a mixture of experts it shows who answers which token", async () => {
  const page = await open(`${HERE}&run=experts`);
  await page.getByRole("radio", { name: "layer 1" }).click();
  const experts = page.locator(".experts .odds button");
  await experts.nth(2).click();
  await expect.poll(() => page.url()).toContain("layer=1&expert=2");
  const answer = (await (
    await inspect("attention", { run: "experts", prompt: PROMPT })
  ).json()) as {
    fields: { gates: number[][][]; expert_share: number[][] };
  };
  const { gates, expert_share } = answer.fields;
  const shares = await page.locator(".experts .odds .number").allTextContents();
  expect(shares).toEqual(expert_share[1]!.map((share) => `${(100 * share).toFixed(1)} %`));
  const shades = await page
    .locator(".experts .token")
    .evaluateAll((chips) =>
      chips.map((chip) => Number((chip as HTMLElement).style.getPropertyValue("--shade"))),
    );
  expect(shades.length).toBe(gates[1]!.length);
  shades.forEach((shade, token) => expect(shade).toBeCloseTo(gates[1]![token]![2]!, 2));
  expect(Math.max(...shades)).toBeGreaterThan(0);
});

test("a model without attention, and a text that is too long, are told with what to do", async () => {
  const page = await open(`${HERE}&run=ladder%2Fembedding`);
  await page.getByText("This model has no attention").waitFor();
  const long = encodeURIComponent(`${PROMPT}. `.repeat(40));
  await page.goto(`${inject("server")}/#/attention?prompt=${long}`);
  await page.reload();
  await page.getByRole("alert").getByText("1 to 256 are required").waitFor();
  await page.getByRole("button", { name: "Keep the end of the text that fits" }).click();
  await page.getByRole("heading", { name: "Layer 0, head 0" }).waitFor();
  expect(await page.locator(TEXT).count()).toBeGreaterThan(200);
});

/** A text of exactly so many tokens. */
async function textOf(tokens: number): Promise<string> {
  const text = `${PROMPT} went home.`.repeat(9);
  const answer = (await (await inspect("tokens", { prompt: text })).json()) as Answer;
  const missing = tokens - answer.fields.tokens.length;
  expect(missing).toBeGreaterThan(0);
  return text + " a".repeat(missing);
}

interface Moved {
  /** From each movement's event to the end of the frame that shows it. */
  readonly wallMs: number[];
  /** What the page's thread itself worked for each movement. */
  readonly workMs: number[];
}

async function moveOver(page: Page, selector: string, moves: number): Promise<Moved> {
  const place = page.locator(selector);
  await place.scrollIntoViewIfNeeded();
  const box = (await place.boundingBox())!;
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const worked = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return 1000 * metrics.find(({ name }) => name === "TaskDuration")!.value;
  };
  await page.evaluate(() => {
    const frames: number[] = [];
    const channel = new MessageChannel();
    let began: number | null = null;
    // A message that is sent in a frame arrives when its style, layout and paint are done.
    channel.port1.onmessage = () => {
      if (began !== null) frames.push(performance.now() - began);
      began = null;
    };
    const moved = () => {
      if (began !== null) return;
      began = performance.now();
      requestAnimationFrame(() => channel.port2.postMessage(null));
    };
    addEventListener("pointermove", moved, { capture: true });
    const unhear = () => removeEventListener("pointermove", moved, { capture: true });
    Object.assign(globalThis, { frames, unhear });
  });
  const workMs = [];
  for (let move = 0; move < moves; move++) {
    const share = (move + 0.5) / moves;
    // Down the picture's lower left half, and to and fro over the text.
    const x = box.x + box.width * (0.15 + 0.2 * ((move * 7) % 10) * 0.1 + 0.3 * share);
    const before = await worked();
    await page.mouse.move(x, Math.min(box.y + box.height * (0.2 + 0.75 * share), 890));
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
    workMs.push((await worked()) - before);
  }
  await session.detach();
  const wallMs = await page.evaluate(() => {
    const { frames, unhear } = globalThis as unknown as { frames: number[]; unhear: () => void };
    unhear();
    return frames;
  });
  return { wallMs, workMs };
}

const p95 = (values: number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(0.95 * values.length)]!;
const FRAME_MS = 16;
const ROUNDS = 8;

test("at 256 tokens a frame follows the pointer within 16 ms", async () => {
  const prompt = encodeURIComponent(await textOf(256));
  const page = await open(`#/attention?prompt=${prompt}&layer=1`);
  await page.locator(TEXT).nth(255).waitFor();
  expect(await page.locator(TEXT).count()).toBe(256);
  const seen = page.locator(`${TEXT}[data-query]`);
  for (const selector of [".large .over", ".head .tokens"]) {
    let [wall, work] = [Infinity, Infinity];
    // On quiet cores the clock judges, from the pointer to the end of its frame. Where others keep
    // them busy, time on the clock is theirs, and the work of the page's thread is judged.
    const quiet = loadavg()[0]! <= 1.5 * cpus().length;
    const took = () => (quiet ? wall : work);
    // What else runs here only adds: the best of some rounds is nearest to the page's own.
    for (let round = 0; round < ROUNDS && took() >= FRAME_MS; round++) {
      const before = await seen.getAttribute("data-index");
      const { wallMs, workMs } = await moveOver(page, selector, 60);
      expect(await seen.getAttribute("data-index")).not.toBe(before);
      expect(wallMs.length).toBeGreaterThan(40);
      [wall, work] = [Math.min(wall, p95(wallMs)), Math.min(work, p95(workMs))];
      await page.mouse.move(0, 0);
    }
    console.log(`${selector}: p95 ${work.toFixed(1)} ms of work, ${wall.toFixed(1)} ms in all`);
    expect(took(), `ms from pointer to frame (p95) over ${selector}`).toBeLessThan(FRAME_MS);
  }
});

test.each(VIEWS)("it is seen, and axe finds nothing serious: $name", async ({ name, ...view }) => {
  const page = await open(`${HERE}&run=experts&layer=1&pin=10`, view);
  await page.getByRole("heading", { name: "Experts" }).waitFor();
  await page.evaluate(() => document.fonts.ready);
  expect(await seriousFaults(page)).toEqual([]);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  expect(wide).toBeLessThanOrEqual(view.width!);
  expect(await layoutShift(page)).toBeLessThan(0.05);
  await page.goto(`${inject("server")}/${HERE}&layer=1&pin=10&pin-key=3`);
  await page.getByRole("heading", { name: "Layer 1, head 0" }).waitFor();
  await page.waitForTimeout(200);
  await picture(page, `attention-${name}`);
});
