/** Where one is, in the address: the page and all that was chosen there, so that a link shows it again.
 *
 * `#/attention?run=minigpt&prompt=One+day&layer=2`. Names of values mean the same on every page, and
 * stay when the page changes. What is hovered is no place and is kept in focus.ts.
 */
import { useCallback, useSyncExternalStore } from "react";

export const PAGES = [
  "prompt",
  "attention",
  "lens",
  "training-time",
  "training",
  "chat",
  "ladder",
] as const;
export type Page = (typeof PAGES)[number];

export interface Place {
  readonly page: Page;
  readonly values: Readonly<Record<string, string>>;
}

export function parsePlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const page = PAGES.find((name) => name === path) ?? "prompt";
  return { page, values: Object.fromEntries(new URLSearchParams(query)) };
}

export function formatPlace({ page, values }: Place): string {
  const query = new URLSearchParams(values).toString();
  return `#/${page}${query && `?${query}`}`;
}

let known = { hash: "", place: parsePlace("") };
const CHANGED = "placechange";

function current(): Place {
  if (known.hash !== location.hash) {
    known = { hash: location.hash, place: parsePlace(location.hash) };
  }
  return known.place;
}

function subscribe(changed: () => void): () => void {
  addEventListener("hashchange", changed);
  addEventListener("popstate", changed);
  addEventListener(CHANGED, changed);
  return () => {
    removeEventListener("hashchange", changed);
    removeEventListener("popstate", changed);
    removeEventListener(CHANGED, changed);
  };
}

export type Changes = Readonly<Record<string, string | number | null | undefined>>;

/** `values` with `changes`; null, undefined and "" take a value away. */
export function changed(values: Place["values"], changes: Changes): Record<string, string> {
  const merged = { ...values, ...changes };
  const kept = Object.entries(merged).filter(([, v]) => v !== null && v !== undefined && v !== "");
  return Object.fromEntries(kept.map(([name, value]) => [name, String(value)]));
}

/** Goes to another page (a step back in the browser's history) with some values changed. */
export function goTo(page: Page, changes: Changes = {}): void {
  move({ page, values: changed(current().values, changes) }, "pushState");
}

/** Changes values where one is; the browser's history does not grow by it. */
export function choose(changes: Changes): void {
  const { page, values } = current();
  move({ page, values: changed(values, changes) }, "replaceState");
}

function move(place: Place, how: "pushState" | "replaceState"): void {
  const hash = formatPlace(place);
  if (hash === location.hash) return;
  history[how](null, "", hash);
  dispatchEvent(new Event(CHANGED));
}

export function usePlace(): Place {
  return useSyncExternalStore(subscribe, current);
}

/** One value of the place, and how to change it. */
export function useValue(name: string, usual = ""): [string, (value: string | number) => void] {
  const { values } = usePlace();
  const set = useCallback((value: string | number) => choose({ [name]: value }), [name]);
  return [values[name] ?? usual, set];
}

/** The same for a number; what is none counts as the usual one. */
export function useNumber(name: string, usual: number): [number, (value: number) => void] {
  const [text, set] = useValue(name);
  const number = text === "" ? NaN : Number(text);
  return [Number.isFinite(number) ? number : usual, set];
}
