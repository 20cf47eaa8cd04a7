import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { expect, test, vi } from "vitest";
import * as browser from "./browser";
import { layoutShift, picture, seriousFaults, useBrowser, VIEWS } from "./browser";

useBrowser();

// The first look at a text of a new length compiles programs, which a busy machine does slowly.
const PATIENCE_MS = 90_000;
vi.setConfig({ testTimeout: 2 * PATIENCE_MS });

async function open(place: string, view: browser.View = {}): Promise<Page> {
  const page = await browser.open(place, view);
  page.setDefaultTimeout(PATIENCE_MS);
  return page;
}

const PROMPT = "prompt=Near+the+bridge+sat+Noah";
const SCORE = ".score .over";
/** The shares in a column of the paired bars, without the column's name that is read out. */
const numbers = async (page: Page, column: number) => {
  const cells = page.locator(`.pairs .number:nth-of-type(${column})`);
  await cells.first().waitFor();
  return (await cells.allTextContents()).map((each) =>
    each.replace(/^(all on|with these off) /, ""),
  );
};
const place = (page: Page, name: string) =>
  page.evaluate((name) => new URLSearchParams(location.hash.split("?")[1]).get(name), name);

/** Notes every word that is drawn on a canvas from here on. */
async function noteDrawn(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const drawn: string[] = [];
    const draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (...words) {
      drawn.push(words[0]);
      draw.apply(this, words);
    };
    Object.assign(globalThis, { drawn });
  });
  return () => page.evaluate(() => (globalThis as unknown as { drawn: string[] }).drawn);
}

/** What the page's export gives in one of its forms, as text. */
async function saved(page: Page, kind: RegExp): Promise<string> {
  await page.getByRole("button", { name: "Export" }).first().click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: kind }).click(),
  ]);
  return readFileSync((await download.path())!, "utf8");
}

test("a cell of the lens tells what that depth would say; pinned, a link shows it again", async () => {
  const page = await open(`#/lens?${PROMPT}`);
  const panel = page.getByLabel("One position, all depths");
  await panel.waitFor();
  const rows = panel.locator(".depths button");
  expect(await rows.count()).toBe(4);
  await page.locator(SCORE).focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowUp");
  const before = await panel.getByRole("heading").allTextContents();
  expect(before.at(-1)).toBe("In question after layer 1");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  expect(await panel.getByRole("heading").allTextContents()).toEqual(before);
  const again = await open(new URL(page.url()).hash);
  const there = again.getByLabel("One position, all depths");
  await there.waitFor();
  expect(await there.getByRole("heading").allTextContents()).toEqual(before);
  // The depths' chances of the answer are shares, and the last depth says the answer.
  const says = await rows.allTextContents();
  const answer = /How (\S+) becomes/.exec(before[1]!)![1]!;
  expect(says.at(-1)).toContain(`says ${answer}; ${answer} has`);
  expect(await layoutShift(again)).toBeLessThan(0.05);
});

test("256 tokens fit: lines are drawn as they come in sight, and a pointer draws none", async () => {
  const text = "One sunny day Tom saw a big red ball in the park. ".repeat(20);
  const prompt = text.slice(0, 500);
  const page = await open(`#/lens?${new URLSearchParams({ prompt })}`);
  await page.locator(SCORE).waitFor();
  const drawn = await noteDrawn(page);
  const box = (await page.locator(".score").boundingBox())!;
  for (let step = 0; step < 30; step++) {
    await page.mouse.move(box.x + 90 + 20 * step, box.y + 40 + 27 * (step % 4));
  }
  await page.locator(".score-pointer:visible").waitFor();
  expect(await drawn()).toEqual([]);
  const [length, high] = await page
    .locator(".score")
    .evaluate((score) => [score.scrollHeight, score.clientHeight] as const);
  expect(length).toBeGreaterThan(2 * high);
  await page.locator(".score").evaluate((score) => score.scrollTo(0, score.scrollHeight));
  await expect.poll(async () => (await drawn()).length).toBeGreaterThan(20);
  const few =
    0.6 *
    5 *
    Number(/of (\d+) tokens/.exec((await page.getByRole("img").getAttribute("aria-label"))!)![1]);
  expect((await drawn()).length).toBeLessThan(few);
});

test("a head that is switched off moves the bars; switched on, they are as before", async () => {
  const page = await open(`#/lens?view=ablate&${PROMPT}`);
  const parts = page.locator(".board-part");
  await page.locator(".board-part", { hasText: "+" }).first().waitFor();
  expect(await parts.count()).toBe(3 * (4 + 1));
  expect(await numbers(page, 4)).toEqual(await numbers(page, 3));
  await parts.first().focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  expect(await place(page, "off")).toBe("0.1");
  await page.getByText("of the probability went to other words").waitFor();
  const after = await numbers(page, 4);
  expect(after).not.toEqual(await numbers(page, 3));
  const shades = await page
    .locator(".tokens .token")
    .evaluateAll((chips) =>
      chips.map((chip) => Number((chip as HTMLElement).style.getPropertyValue("--shade"))),
    );
  expect(Math.max(...shades)).toBeGreaterThan(0.02);
  expect((await saved(page, /SVG/)).match(/>off \(/g)).toHaveLength(1);
  const again = await open(new URL(page.url()).hash);
  await again.getByText("of the probability went to other words").waitFor();
  expect(await numbers(again, 4)).toEqual(after);
  await again.getByRole("button", { name: "Switch all on" }).click();
  await again.getByText("Nothing is off").waitFor();
  expect(await numbers(again, 4)).toEqual(await numbers(again, 3));
  expect(await again.locator(".board-part[aria-pressed=true]").count()).toBe(0);
});

test("an exchange is suggested, and at first its token alone brings the answer back", async () => {
  const page = await open(`#/lens?view=patch&${PROMPT}`);
  const map = page.getByLabel("By layer and token");
  await map.locator("canvas").first().waitFor();
  await page.getByText("Suggested:").waitFor();
  const pairs = page.locator(".aligned .pair");
  const differs = await pairs.evaluateAll((all) =>
    all.map((pair) => pair.querySelector(".differs") !== null),
  );
  expect(differs.filter(Boolean)).toHaveLength(1);
  await map.getByText("As a table").click();
  const cells = map.locator("tbody tr").first().locator("td");
  const exchanged = differs.indexOf(true);
  await expect.poll(() => cells.nth(1 + exchanged).textContent()).toBe("100 %");
  const first = await cells.allTextContents();
  expect(first.slice(1).filter((share) => share !== "0 %")).toHaveLength(1);
  expect(await layoutShift(page)).toBeLessThan(0.05);
});

test("tokens are exchanged by hand, and texts of two lengths are told so with their counts", async () => {
  const page = await open(`#/lens?view=patch&${PROMPT}&exchange=9.262&end=10`);
  const pairs = page.locator(".aligned .pair");
  await pairs.first().waitFor();
  const words = await pairs.locator(".token:nth-child(1)").allTextContents();
  await pairs
    .nth(words.length - 1)
    .locator("button")
    .nth(1)
    .click();
  await page
    .getByRole("button", { name: /^Exchange it for/ })
    .first()
    .click();
  expect(await place(page, "exchange")).toContain(`${words.length - 1}.`);
  await page.getByLabel("Second text, which leads elsewhere").fill("Near the bridge");
  const told = page.getByText(/^The first text has/);
  await told.waitFor();
  expect(await told.textContent()).toContain(`has ${words.length} tokens`);
  await page.getByRole("button", { name: "Suggest an exchange" }).click();
  await page.getByText("Suggested:").waitFor();
  expect(await told.count()).toBe(0);
});

test("what is drawn is saved as SVG, its words as text, and its numbers as JSON", async () => {
  const page = await open(`#/lens?prompt=${encodeURIComponent("a <script>alert(1)</script>")}`);
  await page.locator(SCORE).waitFor();
  const svg = await saved(page, /SVG/);
  expect(svg).toContain(">layer 2</text>");
  expect(svg).not.toContain("<script");
  const { logprobs } = JSON.parse(await saved(page, /JSON/)) as { logprobs: { shape: number[] } };
  expect(logprobs.shape[0]).toBe(4);
});

test("a model without layers says so on each view", async () => {
  const page = await open("#/lens?run=ladder%2Fembedding");
  for (const view of ["Lens", "Switch off", "Patch"]) {
    await page.getByRole("radio", { name: view }).click();
    await page.getByText(/Choose another run above/).waitFor();
  }
});

const READY = {
  lens: ".depths",
  ablate: ".board-part[aria-pressed=true] >> nth=1",
  patch: "[aria-label='By layer and head'] canvas >> nth=0",
};

for (const { name, ...view } of VIEWS) {
  test(`the three views are whole and readable: ${name}`, async () => {
    for (const [shown, ready] of Object.entries(READY)) {
      const page = await open(`#/lens?view=${shown}&off=0.1,2.m&pin=6`, view);
      await page.locator(ready).waitFor();
      await page.getByText("Looking…").waitFor({ state: "hidden" });
      await expect.poll(() => page.locator(".waiting").count()).toBe(0);
      const [wide, inside] = await page.evaluate(() => [
        document.documentElement.clientWidth,
        document.documentElement.scrollWidth,
      ]);
      expect(inside).toBeLessThanOrEqual(wide!);
      expect(await seriousFaults(page)).toEqual([]);
      await picture(page, shown === "lens" ? `lens-${name}` : `lens-${shown}-${name}`);
      await page.context().close();
    }
  });
}
