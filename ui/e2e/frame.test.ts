import { expect, inject, test } from "vitest";
import { layoutShift, open, useBrowser } from "./browser";
import { end, serve } from "./serve";

useBrowser();

const FIRST_SCREEN_MS = 1000;
const VISITS = 3;
const MOST_VISITS = 8;

test("the first screen is there within a second, without a shift", async () => {
  const times: number[] = [];
  // What else runs here only adds, so the quickest visit is nearest to the page's own time. The clock
  // judges it on busy cores too: it is the server's work as much as that of the page.
  const slow = () => times.length < VISITS || Math.min(...times) >= FIRST_SCREEN_MS;
  while (slow() && times.length < MOST_VISITS) {
    const page = await open("");
    await page.getByRole("button", { name: "Write on" }).waitFor();
    times.push(await page.evaluate(() => performance.now()));
    await page.waitForTimeout(200);
    expect(await layoutShift(page)).toBeLessThan(0.05);
  }
  console.log(`first screen after ${times.map((each) => each.toFixed(0)).join(", ")} ms`);
  expect(Math.min(...times)).toBeLessThan(FIRST_SCREEN_MS);
});

test("scripts weigh less than 300 kB as they are sent compressed", async () => {
  const { gzipSync } = await import("node:zlib");
  const page = await open("");
  const scripts = new Map<string, Promise<number>>();
  page.on("response", (response) => {
    if (!response.url().endsWith(".js")) return;
    scripts.set(
      response.url(),
      response.body().then((body) => gzipSync(body).length),
    );
  });
  await page.reload();
  // Pages come with what they are about: before it is there, a tab asks for no script.
  await page.getByRole("button", { name: "Write on" }).waitFor();
  for (const tab of await page.getByRole("tab").all()) {
    await tab.click();
    await expect.poll(() => tab.getAttribute("aria-selected")).toBe("true");
    // A page is shown once all its scripts are there, and not before.
    await page.getByText("Opening…").waitFor({ state: "detached" });
  }
  const weights = await Promise.all(scripts.values());
  const all = weights.reduce((sum, each) => sum + each, 0);
  console.log(`scripts of all pages: ${(all / 1000).toFixed(0)} kB compressed`);
  expect(scripts.size).toBeGreaterThan(5);
  expect(all).toBeLessThan(300_000);
});

test("pages are tabs: arrows move, Back returns, and the address opens the same", async () => {
  const page = await open("#/prompt?prompt=Long+ago&temperature=0.3");
  await page.getByRole("tab", { name: "Prompt" }).focus();
  await page.keyboard.press("ArrowRight");
  expect(await page.evaluate(() => document.activeElement!.textContent)).toBe("Attention");
  await expect.poll(() => page.url()).toContain("#/attention?prompt=Long+ago&temperature=0.3");
  const selected = () => page.locator("[role=tab][aria-selected=true]").textContent();
  expect(await selected()).toBe("Attention");
  await page.keyboard.press("End");
  expect(await selected()).toBe("Ladder");
  await page.goBack();
  expect(await selected()).toBe("Attention");
  const again = await open(new URL(page.url()).hash.replace("attention", "prompt"));
  expect(await again.locator(".prompt textarea").inputValue()).toBe("Long ago");
  expect(await again.getByText("0.30").count()).toBe(1);
});

test("what is chosen stays chosen on all pages: run and checkpoint", async () => {
  const page = await open("");
  await page.getByLabel("Run").selectOption("ladder/gpt");
  await page.getByRole("tab", { name: "Attention" }).click();
  await expect.poll(() => page.getByLabel("Run").inputValue()).toBe("ladder/gpt");
  await page.getByLabel("Run").selectOption("story");
  await expect.poll(() => page.getByLabel("Run").inputValue()).toBe("story");
  await page.getByLabel("Checkpoint").selectOption("34");
  await page.getByRole("tab", { name: "Prompt" }).click();
  expect(await page.getByLabel("Checkpoint").inputValue()).toBe("34");
});

test("text that looks like markup is text, in prompts, tokens and errors", async () => {
  const markup = `<img src=x onerror="globalThis.owned=1"><b>bold</b>`;
  const page = await open(
    `#/prompt?prompt=${encodeURIComponent(markup)}&run=${encodeURIComponent("<i>no</i>")}`,
  );
  await page.getByRole("alert").waitFor();
  expect(await page.locator("main img, main i, main b").count()).toBe(0);
  const other = await open(`#/prompt?prompt=${encodeURIComponent(markup)}&max_tokens=4`);
  await other.getByRole("button", { name: "Write on" }).click();
  await other.locator("[aria-label=Continuation] .token").nth(5).waitFor();
  expect(await other.locator("main img, main b").count()).toBe(0);
  const shown = await other.locator("[aria-label=Continuation] .token.given").allTextContents();
  expect(shown.join("")).toContain("onerror");
  for (const each of [page, other]) {
    expect(await each.evaluate(() => (globalThis as { owned?: number }).owned)).toBeUndefined();
  }
});

test("a run that is not there is told, with what to do", async () => {
  const page = await open("#/prompt?run=nothing/here");
  const alert = page.getByRole("alert");
  await alert.waitFor();
  expect((await alert.textContent())!.length).toBeGreaterThan(20);
});

test("the theme is that of the system until one is chosen, and then it stays", async () => {
  const page = await open("", { theme: "dark" });
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  expect(await theme()).toBe("dark");
  await page.getByRole("button", { name: "Use the light theme" }).click();
  expect(await theme()).toBe("light");
  await page.reload();
  expect(await theme()).toBe("light");
});

test("the tour opens once, goes by itself through the pages, and gives the focus back", async () => {
  const page = await open("", { first: true });
  const tour = page.getByRole("dialog");
  await tour.waitFor();
  const pages = new Set<string>();
  while (await page.getByRole("button", { name: "Next" }).count()) {
    pages.add(new URL(page.url()).hash);
    await page.keyboard.press("Enter");
  }
  await page.getByRole("button", { name: "Done" }).click();
  expect(await tour.count()).toBe(0);
  expect(pages.size).toBeGreaterThan(2);
  await page.reload();
  await page
    .getByRole("button", { name: "Write on" })
    .or(page.getByRole("heading"))
    .first()
    .waitFor();
  expect(await tour.count()).toBe(0);
});

test("a server that goes away and comes back is survived", async () => {
  const first = await serve(inject("shelf"));
  const page = await open("#/prompt?prompt=One+sunny&max_tokens=8", { server: first.url });
  await page.getByRole("button", { name: "Write on" }).click();
  await page.getByText(/8 tokens|the model ended/).waitFor();
  await end(first.process);
  await page.getByRole("button", { name: "Write on" }).click();
  await page.getByText("The server went away").waitFor();
  const port = new URL(first.url).port;
  const second = await serve(inject("shelf"), `--port=${port}`);
  await page.getByText("The server went away").waitFor({ state: "detached", timeout: 15_000 });
  await page.getByRole("button", { name: "Write on" }).click();
  await page.getByText(/8 tokens|the model ended/).waitFor();
  await end(second.process);
}, 360_000);

test("a server with keys asks for one, and the page opens with it", async () => {
  process.env.NANOGPT_JAX_API_KEYS = "sesame";
  const locked = await serve(inject("shelf")).finally(
    () => delete process.env.NANOGPT_JAX_API_KEYS,
  );
  const page = await open("", { server: locked.url });
  await page.getByLabel(/API key/).fill("sesame");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("button", { name: "Write on" }).waitFor();
  await end(locked.process);
}, 180_000);
