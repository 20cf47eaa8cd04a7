import { expect, test } from "vitest";
import type { Arrays } from "../../api/arrays";
import { measured, shares } from "./measures";

// Two depths, two positions, one alternative each; eight words in all.
const LENS: Arrays = {
  beside: {},
  fields: {
    logprobs: { shape: [2, 2, 1], data: Float32Array.of(0.5, 0.25, 1, 0.125).map(Math.log) },
    entropy_nats: { shape: [2, 2], data: Float32Array.of(0, Math.log(8), Math.log(2), 0) },
    nats: { shape: [2, 1], data: Float32Array.of(Math.log(8), 0) },
  },
};

test("each measure is a share: of certainty, of the largest entropy, of a blind guess's surprise", () => {
  expect([...shares(LENS, "probability", 8)]).toEqual([0.5, 0.25, 1, 0.125]);
  expect([...shares(LENS, "uncertainty", 8)]).toEqual([0, 1, expect.closeTo(1 / 3), 0]);
  expect([...shares(LENS, "surprise", 8)]).toEqual([1, NaN, 0, NaN]);
});

test("a share is told in its unit, and the end of the text has no surprise", () => {
  expect(measured("probability", 0.25, 8)).toBe("25.0 %");
  expect(measured("uncertainty", 1 / 3, 8)).toBe("1.0 bits");
  expect(measured("surprise", NaN, 8)).toBe("nothing follows");
});
