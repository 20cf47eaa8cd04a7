/** Runs are started, watched, asked, stopped and compared: on a server of their own, because what is
 * served is another run when one is done.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { layoutShift, open, picture, seriousFaults, useBrowser, VIEWS } from "./browser";
import { end, serve } from "./serve";

useBrowser();

// A run starts in a process of its own, which takes its time where others share the cores. Each wait
// may last so long, and a test waits more than once.
const PATIENCE_MS = 120_000;
const TEST_MS = 3 * PATIENCE_MS;

let shelf: string;
let started: Awaited<ReturnType<typeof serve>>;

beforeAll(async () => {
  shelf = mkdtempSync(join(tmpdir(), "training-"));
  cpSync(inject("shelf"), shelf, { recursive: true });
  started = await serve(shelf);
}, PATIENCE_MS);

afterAll(async () => {
  await end(started.process);
  rmSync(shelf, { recursive: true, force: true });
});

const visit = (place: string, view = {}) => open(place, { ...view, server: started.url });
const titled = (page: Page, title: string) =>
  page.getByRole("heading", { name: new RegExp(`^${title}\\b`) }).waitFor({ timeout: PATIENCE_MS });
const steps = async (page: Page) =>
  Number(await page.getByRole("progressbar").getAttribute("aria-valuenow"));
const idIn = (page: Page) => /live=([0-9a-f-]{36})/.exec(page.url())?.[1] ?? "";

it(
  "trains a recipe to its end, tells what it has reached, and serves it from then on",
  async () => {
    const page = await visit("#/training");
    await page.getByRole("radio", { name: /A table of pairs/ }).check();
    await page.getByLabel(/^Steps/).fill("40");
    await page.getByRole("button", { name: "Start training" }).click();
    await titled(page, "Starting");
    await titled(page, "Trained");
    expect(await steps(page)).toBe(40);
    const numbers = await page.locator(".numbers").innerText();
    expect(numbers).toMatch(/Validation loss\s+\d\.\d{3}/);
    expect(numbers).toMatch(/Excess over entropy\s+\d\.\d{3}/);
    await expect
      .poll(() => page.locator(".chooser select").first().inputValue())
      .toContain(idIn(page));
    expect(await layoutShift(page)).toBeLessThan(0.05);
  },
  TEST_MS,
);

it(
  "finds a run under way again, asks it as it learns, and stops it",
  async () => {
    const first = await visit("#/training?train-steps=50000&recipe=embedding");
    await first.getByRole("button", { name: "Start training" }).click();
    await titled(first, "Training");
    const id = idIn(first);
    const page = await visit("#/training");
    await titled(page, "Training");
    expect(idIn(page)).toBe(id);
    await page.locator(".frames .said").first().waitFor({ timeout: PATIENCE_MS });
    const before = await steps(page);
    await expect.poll(() => steps(page), { timeout: PATIENCE_MS }).toBeGreaterThan(before);
    await page.locator("summary", { hasText: "Start another run" }).click();
    await page.getByRole("button", { name: "Start training" }).click();
    await page.getByRole("alert").filter({ hasText: "is under way" }).waitFor();
    await page.goto(`${started.url}/#/training?live=${id}`);
    await page.reload();
    await page.getByRole("button", { name: "Stop and save" }).click();
    await titled(page, "Stopped");
    expect(await page.getByRole("status").first().innerText()).toMatch(/stopped at step [\d,]+/);
  },
  TEST_MS,
);

it("says in the server's words what cannot be started", async () => {
  const page = await visit("#/training?train-steps=100001&recipe=gpt");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.getByRole("alert").filter({ hasText: "at most 100000" }).waitFor();
});

it("lays two runs over each other and sorts them, by keyboard and in the address", async () => {
  const page = await visit("#/training?compare=ladder%2Fgpt");
  const box = page.getByRole("checkbox", { name: /^story/ }).first();
  await box.focus();
  await page.keyboard.press("Space");
  await page.getByRole("img", { name: "validation loss of 2 runs, by steps" }).waitFor();
  const rows = () => page.locator(".compared tbody th").allInnerTexts();
  expect((await rows())[0]).toContain("story");
  await page.getByRole("button", { name: "validation loss", exact: false }).last().press("Enter");
  expect((await rows())[0]).toContain("ladder/gpt");
  await page.getByRole("radio", { name: "by tokens" }).click();
  await page.getByRole("img", { name: "validation loss of 2 runs, by tokens" }).waitFor();
  await page.reload();
  await page.getByRole("img", { name: "validation loss of 2 runs, by tokens" }).waitFor();
  expect((await rows())[0]).toContain("ladder/gpt");
});

it.each(VIEWS)(
  "is well made: $name",
  async (view) => {
    const page = await visit("#/training?live=story&compare=story,ladder%2Fgpt", view);
    await page.getByRole("button", { name: "Ask its earlier checkpoints too" }).click();
    await expect
      .poll(() => page.locator(".frames .said", { hasNotText: /^…$/ }).count(), {
        timeout: PATIENCE_MS,
      })
      .toBe(8);
    await page.getByRole("img", { name: "validation loss of 2 runs, by steps" }).waitFor();
    expect(await layoutShift(page)).toBeLessThan(0.05);
    expect(await seriousFaults(page)).toEqual([]);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
    await page.evaluate(() => scrollTo(0, 0));
    await picture(page, `training-${view.name}`);
  },
  TEST_MS,
);
