import { readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { layoutShift, open, picture, seriousFaults, useBrowser, VIEWS } from "./browser";

useBrowser();

// The first look at a text of a new length compiles programs, which a busy machine does slowly.
const PATIENCE_MS = 60_000;
vi.setConfig({ testTimeout: 2 * PATIENCE_MS });

const OUTPUT = "[aria-label=Continuation]";
const written = `${OUTPUT} .token:not(.given)`;

test("a prompt of the run's own corpus is there, and is written on token by token", async () => {
  const page = await open("");
  expect((await page.locator(".prompt textarea").inputValue()).length).toBeGreaterThan(5);
  await page.getByRole("button", { name: "Write on" }).click();
  await page.getByText("as long as you asked for").or(page.getByText("the model ended")).waitFor();
  const shades = await page
    .locator(written)
    .evaluateAll((chips) =>
      chips.map((c) => Number((c as HTMLElement).style.getPropertyValue("--shade"))),
    );
  expect(shades.length).toBeGreaterThan(5);
  expect(new Set(shades).size).toBeGreaterThan(3);
  expect(Math.max(...shades)).toBeLessThanOrEqual(1);
  expect(await layoutShift(page)).toBeLessThan(0.05);
});

test("one seed writes one text, another seed another", async () => {
  const texts = [];
  for (const seed of [3, 3, 4]) {
    const page = await open(`#/prompt?prompt=One+sunny&seed=${seed}&max_tokens=24`);
    await page.getByRole("button", { name: "Write on" }).click();
    await page.getByText(/24 tokens|the model ended/).waitFor();
    texts.push((await page.locator(written).allTextContents()).join(""));
  }
  expect(texts[1]).toBe(texts[0]);
  expect(texts[2]).not.toBe(texts[0]);
});

test("an alternative is pointed at, read, taken, and taken back", async () => {
  const page = await open("#/prompt?prompt=One+sunny&max_tokens=20&temperature=0");
  await page.getByRole("button", { name: "Write on" }).click();
  await page.getByText(/20 tokens|the model ended/).waitFor();
  const before = await page.locator(written).allTextContents();
  await page.locator(written).nth(6).hover();
  const panel = page.getByLabel("Token", { exact: true });
  await panel.getByText("id", { exact: true }).waitFor();
  await page.locator(written).nth(6).click();
  const others = panel.getByRole("button", { name: /^Go on with/ });
  const word = (await others.first().locator(".word").textContent())!;
  await others.first().click();
  await page.getByText(/20 tokens|the model ended/).waitFor();
  const after = await page.locator(written).allTextContents();
  expect(after.slice(0, 6)).toEqual(before.slice(0, 6));
  expect(after[6]!.replace(/ /g, "·")).toBe(word);
  expect(after[6]).not.toBe(before[6]);
  await page.getByRole("button", { name: "Back to before the branch" }).click();
  expect(await page.locator(written).allTextContents()).toEqual(before);
});

test("Escape stops a text, and what was written stays", async () => {
  const page = await open("#/prompt?prompt=One+sunny&max_tokens=250");
  await page.getByRole("button", { name: "Write on" }).click();
  await page.locator(written).nth(3).waitFor();
  await page.keyboard.press("Escape");
  const stopped = page.getByText("stopped by you");
  const ended = page.getByText("the model ended the text"); // it may be quicker
  await stopped.or(ended).waitFor();
  const count = await page.locator(written).count();
  expect(count).toBeGreaterThan(3);
  await page.waitForTimeout(300);
  expect(await page.locator(written).count()).toBe(count);
});

test("two settings write side by side from one prompt, and an export holds both", async () => {
  const page = await open(
    "#/prompt?prompt=Long+ago&two=1&max_tokens=20&max_tokens-b=20&temperature=0&temperature-b=2",
  );
  await page.getByRole("button", { name: "Write on" }).click();
  await expect.poll(() => page.locator(OUTPUT).count()).toBe(2);
  await expect
    .poll(() => page.getByText(/20 tokens|the model ended/).count(), { timeout: PATIENCE_MS })
    .toBeGreaterThanOrEqual(2);
  await page.getByRole("button", { name: "Export" }).click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "JSON numbers" }).click(),
  ]);
  const exported = JSON.parse(readFileSync(await download.path(), "utf8"));
  expect(exported).toHaveLength(2);
  expect(exported[0].settings.temperature).toBe(0);
  expect(exported[0].text.startsWith("Long ago")).toBe(true);
  expect(exported[0].text).not.toBe(exported[1].text);
});

test("an early checkpoint writes too, and worse", async () => {
  const surprise = async (step: string) => {
    const page = await open(`#/prompt?prompt=One+sunny&max_tokens=30&temperature=0&step=${step}`);
    await page.getByRole("button", { name: "Write on" }).click();
    await page.getByText(/30 tokens|the model ended/).waitFor();
    const shades = await page
      .locator(written)
      .evaluateAll((chips) =>
        chips.map((c) => Number((c as HTMLElement).style.getPropertyValue("--shade"))),
      );
    return shades.reduce((sum, each) => sum + each, 0) / shades.length;
  };
  expect(await surprise("4")).toBeLessThan(await surprise(""));
});

test("a prompt that cannot be read is refused in a sentence, and the page goes on", async () => {
  const page = await open(`#/prompt?prompt=${encodeURIComponent("x".repeat(7000))}`);
  await page.route("**/api/continue", (route) =>
    route.fulfill({
      status: 400,
      contentType: "application/json",
      body: '{"error":"bad_request","message":"<b>found</b> nothing; one token is required"}',
    }),
  );
  await page.getByRole("button", { name: "Write on" }).click();
  const alert = page.getByRole("alert");
  await alert.waitFor();
  expect(await alert.textContent()).toBe("<b>found</b> nothing; one token is required.");
  await page.unroute("**/api/continue");
  await page.locator(".prompt textarea").fill("One day");
  await page.getByRole("button", { name: "Write on" }).click();
  await page.locator(written).first().waitFor();
});

for (const { name, ...view } of VIEWS) {
  test(`the page is whole, ${name}`, async () => {
    const page = await open("#/prompt?prompt=One+sunny+morning&seed=5&max_tokens=60", view);
    await page.getByRole("button", { name: "Write on" }).click();
    await page.getByText(/60 tokens|the model ended/).waitFor();
    await page.locator(written).nth(9).click();
    expect(await seriousFaults(page)).toEqual([]);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(wide).toBeLessThanOrEqual(0);
    await picture(page, `prompt-${name}`);
  });
}
