import { beforeEach, expect, test } from "vitest";
import { changed, choose, formatPlace, goTo, PAGES, parsePlace } from "./place";

beforeEach(() => {
  location.hash = "";
});

test("a place survives its address, whatever its values hold", () => {
  const values = { prompt: "a&b=c #d%\n é 🙂", run: "minigpt/runs/x", pin: "0" };
  for (const page of PAGES) {
    expect(parsePlace(formatPlace({ page, values }))).toEqual({ page, values });
  }
});

test("an address of no page is the first page", () => {
  expect(parsePlace("#/nothing?x=1")).toEqual({ page: "prompt", values: { x: "1" } });
  expect(parsePlace("")).toEqual({ page: "prompt", values: {} });
});

test("what is empty, null or undefined is no value, and 0 is one", () => {
  expect(changed({ a: "1", b: "2", c: "3" }, { a: "", b: null, c: undefined, d: 0 })).toEqual({
    d: "0",
  });
});

test("choosing stays at the entry of the history, going makes one, and both keep other values", () => {
  goTo("lens", { prompt: "x" });
  const entries = history.length;
  choose({ layer: 2 });
  expect(history.length).toBe(entries);
  goTo("attention");
  expect(parsePlace(location.hash)).toEqual({
    page: "attention",
    values: { prompt: "x", layer: "2" },
  });
});
