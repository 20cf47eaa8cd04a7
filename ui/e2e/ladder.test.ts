import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { layoutShift, open, picture, seriousFaults, useBrowser, VIEWS } from "./browser";

useBrowser();

// Programs of four models are compiled when the first test asks.
const FIRST_MS = 180_000;
const RUNGS = ["Embedding", "One head", "Several heads", "GPT"];

/** Waits until all rungs have said everything. */
async function whole(page: Page): Promise<void> {
  await page.waitForFunction(
    () =>
      document.querySelectorAll(".rung .continuation").length === 4 &&
      document.querySelectorAll(".rung .odds").length === 4 &&
      document.querySelectorAll(".rung .canvas").length === 3 &&
      !document.querySelector(".rung .waiting"),
    undefined,
    { timeout: FIRST_MS },
  );
}

function odds(page: Page, rung: string): Promise<string> {
  return page.getByLabel(rung, { exact: true }).locator(".odds").innerText();
}

test(
  "four rungs in order, and each does better than the one before",
  async () => {
    const page = await open("#/ladder");
    await whole(page);
    const titles = await page.locator(".rung h2").allTextContents();
    expect(titles).toEqual(RUNGS.map((title, index) => `${index + 1} ${title}`));
    await page.getByText("As a table").click();
    const cells = page.locator("tbody td:nth-child(3)");
    await expect.poll(() => cells.count()).toBe(4);
    const losses = (await cells.allTextContents()).map(Number);
    expect(losses).toEqual([...losses].sort((a, b) => b - a));
    expect(losses[3]).toBeGreaterThan(0.5);
    expect(await layoutShift(page)).toBeLessThan(0.05);
  },
  FIRST_MS,
);

test(
  "to the table only the last token counts, and to the others all of them",
  async () => {
    const found: Record<string, string[]> = {};
    for (const prompt of ["One+sunny+day%2C+the", "Tom+saw+that+the"]) {
      const page = await open(`#/ladder?prompt=${prompt}`);
      await whole(page);
      for (const rung of RUNGS) (found[rung] ??= []).push(await odds(page, rung));
    }
    expect(found.Embedding![0]).toContain("%");
    expect(found.Embedding![1]).toBe(found.Embedding![0]);
    for (const rung of RUNGS.slice(1)) expect(found[rung]![1]).not.toBe(found[rung]![0]);
  },
  FIRST_MS,
);

test("one token is pinned in all rungs, kept in the address, and let go", async () => {
  const page = await open("#/ladder?prompt=One+sunny+day&temperature=0");
  await whole(page);
  const before = await odds(page, "GPT");
  const first = page.getByLabel("Embedding", { exact: true }).locator(".token");
  await first.nth(1).focus();
  await page.keyboard.press("Enter");
  await expect.poll(() => page.url()).toContain("at=1");
  await expect.poll(() => page.locator(".rung .token[aria-pressed=true]").count()).toBe(4);
  await expect.poll(() => odds(page, "GPT")).not.toBe(before);
  // What is pointed at in one rung is marked in all.
  await first.nth(2).hover();
  expect(await page.locator(".rung .token[data-hovered]").count()).toBe(4);
  await first.nth(1).click();
  expect(await odds(page, "GPT")).toBe(before);
});

test("the numbers are saved as JSON", async () => {
  const page = await open("#/ladder");
  await whole(page);
  await page.getByRole("button", { name: "Export" }).click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "JSON numbers" }).click(),
  ]);
  const saved = JSON.parse(readFileSync(await download.path(), "utf8")) as {
    rungs: { name: string; loss: number; here: number }[];
  };
  expect(saved.rungs.map(({ name }) => name)).toEqual(RUNGS);
  for (const { loss, here } of saved.rungs) expect(Math.min(loss, here)).toBeGreaterThan(0);
});

test("without a ladder the page says how to train one", async () => {
  const page = await open("");
  const none = { served: "story", runs: [] };
  await page.route("**/api/runs", (route) => route.fulfill({ json: none }));
  await page.getByRole("tab", { name: "Ladder" }).click();
  await page.reload();
  await page.getByText("--config=configs/compare.py").waitFor();
});

for (const view of VIEWS) {
  test(`the page is sound and seen: ${view.name}`, async () => {
    const page = await open("#/ladder", view);
    await whole(page);
    expect(await seriousFaults(page)).toEqual([]);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(wide).toBeLessThanOrEqual(view.width!);
    await picture(page, `ladder-${view.name}`);
  });
}
