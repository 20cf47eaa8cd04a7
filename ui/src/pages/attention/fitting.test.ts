import { expect, it } from "vitest";
import { Problem } from "../../api/client";
import { endThatFits } from "./fitting";

function tooLong(found: number, required: number): Problem {
  return new Problem(400, "context_length_exceeded", "Too long.", null, { found, required });
}

it("the end of a long text is kept from a word on", () => {
  const text = "One day a small brown fox ".repeat(20);
  const end = endThatFits(text, tooLong(200, 100))!;
  expect(text.endsWith(end)).toBe(true);
  expect(end.length).toBeLessThan(text.length / 2);
  expect(end.length).toBeGreaterThan(text.length / 3);
  expect(text.split(" ")).toContain(end.split(" ")[0]);
});

it("a text without spaces is cut as well, and never within a letter", () => {
  const end = endThatFits("🦊".repeat(100), tooLong(400, 100))!;
  expect([...end].every((letter) => letter === "🦊")).toBe(true);
  expect([...end]).toHaveLength(24);
});

it("other problems are none of length", () => {
  expect(endThatFits("One day", null)).toBeNull();
  expect(endThatFits("One day", new Problem(500, "internal", "It failed."))).toBeNull();
});
