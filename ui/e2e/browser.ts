/** A browser as its users have it, and what every page must keep to: no error, no address outside. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, inject } from "vitest";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const IMAGES = resolve(import.meta.dirname, "../../docs/images/ui");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export interface View {
  width?: number;
  height?: number;
  theme?: "light" | "dark";
  /** The tour opens by itself for who is here for the first time. */
  first?: boolean;
  server?: string;
}

let browser: Browser | undefined;
const opened: { page: Page; faults: string[] }[] = [];

/** To be called once in a test file: starts the browser, and judges every page after each test. */
export function useBrowser(): void {
  beforeAll(async () => {
    if (!existsSync(CHROMIUM)) {
      throw new Error(`found no ${CHROMIUM}; install chromium, or name one in CHROMIUM`);
    }
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
    });
  });
  afterAll(async () => browser?.close());
  afterEach(async () => {
    const all = opened.splice(0);
    for (const { page } of all) await page.context().close();
    for (const { faults } of all) expect(faults).toEqual([]);
  });
}

/** Opens a place, such as "#/attention?layer=1". */
export async function open(place: string, view: View = {}): Promise<Page> {
  const server = view.server ?? inject("server");
  const context = await browser!.newContext({
    viewport: { width: view.width ?? 1440, height: view.height ?? 900 },
    colorScheme: view.theme ?? "light",
    reducedMotion: "reduce",
    acceptDownloads: true,
  });
  if (!view.first) {
    await context.addInitScript(() => localStorage.setItem("nanogpt_jax.tour", "yes"));
  }
  await context.addInitScript(() => {
    const shifts = { sum: 0 };
    Object.assign(globalThis, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & {
        value: number;
        hadRecentInput: boolean;
      })[]) {
        if (!entry.hadRecentInput) shifts.sum += entry.value;
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  const faults: string[] = [];
  opened.push({ page, faults });
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // What a refused request writes by itself is no fault of the page.
    const told = message.type() === "error" && !/Failed to load resource/.test(message.text());
    if (told) faults.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    const own = url.origin === new URL(server).origin || ["blob:", "data:"].includes(url.protocol);
    if (!own) faults.push(`asked ${url.origin}`);
  });
  await page.goto(`${server}/${place}`);
  return page;
}

/** The sum of layout shifts so far. */
export function layoutShift(page: Page): Promise<number> {
  return page.evaluate(() => (globalThis as unknown as { shifts: { sum: number } }).shifts.sum);
}

interface Violation {
  id: string;
  impact: string | null;
  nodes: { html: string; failureSummary?: string }[];
}

/** What axe finds serious or critical, in words. */
export async function seriousFaults(page: Page): Promise<string[]> {
  // Not as a script of the page, which its content policy would refuse.
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run: () => Promise<{ violations: Violation[] }> };
    };
    return (await axe.run()).violations;
  });
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
}

/** A picture for docs/ui.md; only where NANOGPT_PICTURES is set, so that tests change no file. */
export async function picture(page: Page, name: string): Promise<void> {
  await page.mouse.move(0, 0);
  const bytes = await page.screenshot({ animations: "disabled" });
  expect(bytes.length).toBeGreaterThan(5000);
  const folder = process.env.NANOGPT_PICTURES ? IMAGES : "";
  if (!folder) return;
  const path = join(folder, `${name}.png`);
  mkdirSync(dirname(path), { recursive: true });
  await page.screenshot({ path, animations: "disabled" });
}

export const VIEWS: readonly (View & { name: string })[] = [
  { name: "wide-light", width: 1440, height: 900, theme: "light" },
  { name: "wide-dark", width: 1440, height: 900, theme: "dark" },
  { name: "narrow-light", width: 390, height: 844, theme: "light" },
  { name: "narrow-dark", width: 390, height: 844, theme: "dark" },
];
