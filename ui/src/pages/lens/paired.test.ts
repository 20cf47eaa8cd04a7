import { expect, test } from "vitest";
import { moved, paired } from "./paired";
import { shareIn } from "./reading";

const odds = (...list: [number, number][]) =>
  list.map(([id, share]) => ({ id, logprob: Math.log(share) }));

test("a word that is not listed has at most what the last one has, and at most what is left", () => {
  expect(shareIn(odds([1, 0.6], [2, 0.3]), 2)).toEqual({ share: expect.closeTo(0.3), exact: true });
  const left = shareIn(odds([1, 0.6], [2, 0.3]), 3);
  expect(left.exact).toBe(false);
  expect(left.share).toBeCloseTo(0.1);
  expect(shareIn(odds([1, 0.3], [2, 0.05]), 3).share).toBeCloseTo(0.05);
});

test("both answers' words are paired, the likeliest of either first", () => {
  const pairs = paired(odds([1, 0.7], [2, 0.2]), odds([3, 0.9], [1, 0.05]), 3);
  expect(pairs.map(({ id }) => id)).toEqual([3, 1, 2]);
  expect(pairs[0]!.before.exact).toBe(false);
  expect(pairs[1]!.after.share).toBeCloseTo(0.05);
});

test("what has moved is the probability that left its words", () => {
  const before = odds([1, 0.7], [2, 0.3]);
  expect(moved(before, before)).toBe(0);
  expect(moved(before, odds([1, 0.2], [2, 0.8]))).toBeCloseTo(0.5);
});
