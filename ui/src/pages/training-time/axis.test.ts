import { expect, test } from "vitest";
import { alongCheckpoints, middle, nearest, thinned } from "./axis";

const STEPS = [0, 1, 2, 5, 20, 100];

test("a checkpoint lies in the middle of its own share of the width", () => {
  const { share } = alongCheckpoints(STEPS);
  STEPS.forEach((step, index) => {
    expect(share(step)).toBeCloseTo(middle(index, STEPS.length), 12);
  });
});

test("steps between checkpoints lie between them, in their order, and none outside the axis", () => {
  const { share } = alongCheckpoints(STEPS);
  const shares = [3, 4, 6, 12, 19, 21, 60, 99, 101, 1e6].map(share);
  expect(shares).toEqual([...shares].sort((one, other) => one - other));
  expect(shares[0]).toBeGreaterThan(middle(2, STEPS.length));
  expect(shares[1]).toBeLessThan(middle(3, STEPS.length));
  expect(shares.at(-1)).toBe(1);
});

test("of too many checkpoints the first, the last and some evenly between are shown", () => {
  const many = Array.from({ length: 101 }, (_, index) => 10 * index);
  const shown = thinned(many, 11);
  expect(shown).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
  expect(thinned(STEPS, 6)).toBe(STEPS);
});

test("a step of a link that is no checkpoint leads to the one nearest on the axis", () => {
  expect(nearest(STEPS, 20)).toBe(20);
  expect(nearest(STEPS, 9)).toBe(5); // 9 is nearer to 5 than to 20 by its logarithm
  expect(nearest(STEPS, 1e9)).toBe(100);
});
