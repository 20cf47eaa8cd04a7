import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { layoutShift, open, picture, seriousFaults, useBrowser, VIEWS } from "./browser";
import { end, serve } from "./serve";

// A run that was tuned on conversations (tests/runs.py ANSWERS) answers on a server of its own.
let server: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => {
  const shelf = inject("shelf");
  server = await serve(shelf, `--workdir=${join(shelf, "answers")}`);
});
afterAll(() => end(server.process));
useBrowser();

const GREEDY = "#/chat?temperature=0";

async function ask(page: Page, text: string): Promise<void> {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Send" }).waitFor();
}

function answers(page: Page): Promise<string[]> {
  return page.getByLabel("The model").locator(".said").allTextContents();
}

function used(page: Page): Promise<string | null> {
  return page.getByText(/tokens of context/).textContent();
}

test("a question is answered, another follows, and all is there after a reload", async () => {
  const page = await open(GREEDY, { server: server.url });
  await page.getByRole("button", { name: "one?" }).click();
  await page.getByRole("button", { name: "Answer again" }).waitFor();
  await ask(page, "two?");
  expect(await answers(page)).toEqual(["two", "three"]);
  expect(await used(page)).toBe("24 of 32 tokens of context");
  expect(await layoutShift(page)).toBeLessThan(0.05);
  await page.getByRole("tab", { name: "Prompt" }).click();
  await page.getByRole("tab", { name: "Chat" }).click();
  expect(await answers(page)).toEqual(["two", "three"]);
  await page.reload();
  await page.getByText("24 of 32").waitFor();
  expect(await answers(page)).toEqual(["two", "three"]);
  await page.getByRole("button", { name: "New conversation" }).click();
  expect(await answers(page)).toEqual([]);
});

test("an earlier question is edited, the talk goes on from there, and the first is kept", async () => {
  const page = await open(GREEDY, { server: server.url });
  await ask(page, "one?");
  await ask(page, "two?");
  await page.getByRole("button", { name: "Edit" }).first().click();
  await page.getByLabel("Say this instead").fill("three?");
  await page.keyboard.press("Enter");
  await page.getByText("2 / 2").waitFor();
  await page.getByRole("button", { name: "Answer again" }).waitFor();
  expect(await answers(page)).toEqual(["one"]);
  await page.getByRole("button", { name: "The version before" }).click();
  expect(await answers(page)).toEqual(["two", "three"]);
  // Escape leaves a question as it is, with the focus where it was.
  await page.getByRole("button", { name: "Edit" }).first().click();
  await page.keyboard.press("Escape");
  await page.locator(":focus", { hasText: "Edit" }).waitFor();
  expect(await answers(page)).toEqual(["two", "three"]);
});

test("a talk that outgrows the context goes on without its beginning", async () => {
  const page = await open(GREEDY, { server: server.url });
  for (const question of ["one?", "two?", "three?"]) await ask(page, question);
  await page.getByText("the model no longer reads").waitFor();
  const said = await answers(page);
  expect(said.slice(0, 2)).toEqual(["two", "three"]);
  expect(said[2]).not.toBe("");
  expect(await page.locator(".forgotten .said").allTextContents()).toEqual(["one?", "two"]);
  await page.getByText("What the model reads").click();
  const read = (await page.getByLabel("The conversation as tokens").textContent())!;
  expect(read).toContain("<|user_start|>");
  expect(read).not.toContain("one?");
});

test("Escape stops an answer; tokens are shaded, with what else could have stood there", async () => {
  const page = await open("#/chat?temperature=2&max_tokens=256&shade=1", { server: server.url });
  // Answers of a model this small are over before anybody could stop them: this one waits for the stop.
  let release: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => (release = resolve));
  await page.route("**/api/continue", async (route) => {
    await stopped;
    await route.continue().catch(() => undefined);
  });
  await page.getByLabel("Message", { exact: true }).fill("one?");
  await page.keyboard.press("Enter");
  await page.getByText("answering…").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("stopped by you").waitFor();
  release();
  await page.unroute("**/api/continue");
  await page.locator("[aria-label=Message]:focus").waitFor();
  await page.getByRole("button", { name: "Answer again" }).click();
  await page.getByText("2 / 2").waitFor();
  await page.locator(".turn .token").first().hover();
  const looked = page.getByLabel("Token", { exact: true });
  await looked.getByText("In the place of").waitFor();
  expect(await looked.locator(".odds li").count()).toBe(6);
});

test("what has no token is refused in a sentence, as text", async () => {
  const page = await open(GREEDY, { server: server.url });
  await ask(page, "<b>Ω</b>");
  await page.getByText(/that the tokenizer of this model has no token for/).waitFor();
  expect(await page.getByLabel("You").textContent()).toContain("<b>Ω</b>");
  expect(await page.locator(".log b").count()).toBe(0);
});

test("a run that cannot chat names one that can, which answers though it is not served", async () => {
  const page = await open("#/chat?temperature=0");
  await page.getByText("has learned to continue texts").waitFor();
  await page.getByRole("button", { name: "Talk with answers" }).click();
  await page.getByText("answers come whole").waitFor();
  await ask(page, "two?");
  expect(await answers(page)).toEqual(["three"]);
});

for (const view of VIEWS) {
  test(`the page is sound and seen: ${view.name}`, async () => {
    const page = await open(`${GREEDY}&shade=1`, { ...view, server: server.url });
    await ask(page, "one?");
    await ask(page, "three?");
    await page.locator(".turn .token").nth(2).click();
    expect(await seriousFaults(page)).toEqual([]);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(wide).toBeLessThanOrEqual(view.width!);
    await picture(page, `chat-${view.name}`);
  });
}
