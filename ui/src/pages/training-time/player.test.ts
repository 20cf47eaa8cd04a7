import { expect, test } from "vitest";
import { needs } from "./player";
import { roomFor } from "./Strip";

function element(html: string): Element {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  return parsed.querySelector("[data-it]")!;
}

test("Space and arrows are left to what is typed into, and to what uses them", () => {
  const typed = element("<textarea data-it></textarea>");
  const button = element("<button data-it>Export</button>");
  const slider = element("<input type=range data-it>");
  const page = element("<main data-it></main>");
  const token = element("<div role=group><button data-it>a</button></div>");
  expect([" ", "ArrowLeft", "Home"].map((key) => needs(typed, key))).toEqual([true, true, true]);
  expect([" ", "ArrowLeft"].map((key) => needs(button, key))).toEqual([true, false]);
  expect([" ", "ArrowLeft"].map((key) => needs(slider, key))).toEqual([false, true]);
  expect([" ", "ArrowLeft"].map((key) => needs(page, key))).toEqual([false, false]);
  expect([" ", "ArrowLeft"].map((key) => needs(token, key))).toEqual([true, true]);
});

test("pictures of the strip never overlap, whatever the width", () => {
  for (const width of [300, 358, 800, 1136]) {
    for (const count of [2, 8, 22, 48]) {
      const { every, size } = roomFor(count, width);
      const apart = ((width - 56) / count) * every;
      expect(size).toBeLessThan(apart);
      expect(size).toBeGreaterThanOrEqual(32);
    }
  }
});
