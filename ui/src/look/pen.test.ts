import { expect, test } from "vitest";
import { escaped, SvgPen } from "./pen";

test("text in a drawing is text, whatever it holds", () => {
  const pen = new SvgPen(100, 50, "#fff");
  pen.text(1, 2, `<script>alert("x")</script>\u0000`, { colour: "red", size: 11 });
  const document = new DOMParser().parseFromString(pen.toString(), "image/svg+xml");
  expect(document.querySelector("script")).toBeNull();
  expect(pen.toString()).not.toContain("<script");
  expect(document.querySelector("text")!.textContent).toBe(`<script>alert("x")</script>`);
});

test("a line is interrupted where it has no value", () => {
  const pen = new SvgPen(100, 50, "#fff");
  pen.line([0, 0, 1, 1, 2, NaN, 3, 3, 4, 4], "red", 1);
  expect(pen.toString()).toContain('d="M0 0L1 1M3 3L4 4"');
});

test("what XML cannot hold is left out, and letters of every script stay", () => {
  expect(escaped("a\u0007é🙂\ud800&")).toBe("aé🙂&amp;");
});
