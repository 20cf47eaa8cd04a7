import { describe, expect, it } from "vitest";
import type { Arrays } from "../../api/arrays";
import {
  entropyAndDistance,
  Looks,
  over,
  pooled,
  shadeOf,
  strongest,
  usualTop,
  withoutFirst,
} from "./looks";

// Three tokens: the second rests on the first, the third divides its look.
const WEIGHTS = Float32Array.from([1, 0, 0, 1, 0, 0, 0.5, 0.25, 0.25]);
const SELF = Float32Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1]);

function answerOf(...heads: Float32Array[]): Arrays {
  const data = Float32Array.from(heads.flatMap((each) => [...each]));
  return {
    fields: { probabilities: { shape: [1, heads.length, 3, 3], data } },
    beside: { layers: [4], heads: heads.map((_, head) => head) },
  };
}

describe("the first token left out", () => {
  it("scales what is left of a row to one, and leaves a row empty that has nothing left", () => {
    expect([...withoutFirst(WEIGHTS, 3)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0.5, 0.5]);
  });

  it("does not change what a head is said to take from the first token", () => {
    const [with_, without] = [false, true].map((out) => new Looks(answerOf(WEIGHTS), out));
    expect(without!.weights(4, 0)).not.toEqual(with_!.weights(4, 0));
    expect(with_!.summary(4, 0).first).toBe(0.75);
    expect(without!.summary(4, 0).first).toBe(0.75);
  });
});

describe("over heads", () => {
  it("takes the mean or the largest, cell by cell", () => {
    expect([...over("mean", [WEIGHTS, SELF])]).toEqual([1, 0, 0, 0.5, 0.5, 0, 0.25, 0.125, 0.625]);
    expect([...over("max", [WEIGHTS, SELF])]).toEqual([1, 0, 0, 1, 1, 0, 0.5, 0.25, 1]);
  });

  it("is found by the number of the layer, not by its place in the answer", () => {
    const looks = new Looks(answerOf(WEIGHTS, SELF), false);
    expect([...looks.row(4, "max", 2)]).toEqual([0.5, 0.25, 1]);
    expect([...looks.column(4, 0, 1)]).toEqual([0, 0, 0.25]);
  });
});

describe("a head in numbers", () => {
  it("has the entropy in bits and the distance in tokens, as means over what has any weight", () => {
    // 0, 0 and 1.5 bits; 0, 1 and 0.5 * 2 + 0.25 * 1 tokens.
    const { entropyBits, distanceTokens } = entropyAndDistance(WEIGHTS, 3);
    expect(entropyBits).toBeCloseTo(0.5, 6);
    expect(distanceTokens).toBeCloseTo(2.25 / 3, 6);
    const alone = entropyAndDistance(withoutFirst(WEIGHTS, 3), 3);
    expect(alone.entropyBits).toBeCloseTo(1, 6);
    expect(alone.distanceTokens).toBeCloseTo(0.5, 6);
  });
});

describe("pictures", () => {
  it("keep a single strong cell, however small they are", () => {
    const length = 100;
    const weights = new Float32Array(length * length);
    weights[77 * length + 31] = 0.9;
    const { values, rows } = pooled(weights, length, 10);
    expect(rows).toBe(10);
    expect(values[7 * 10 + 3]).toBeCloseTo(0.9, 6);
    expect(values.filter((each) => each > 0)).toHaveLength(1);
  });

  it("are darkest at a weight that few cells pass, so that long texts are not pale", () => {
    const length = 200;
    const even = new Float32Array(length * length);
    const previous = new Float32Array(length * length);
    for (let query = 0; query < length; query++) {
      even.fill(1 / (query + 1), query * length, query * length + query + 1);
      previous[query * length + Math.max(query - 1, 0)] = 1;
    }
    expect(usualTop(even, length)).toBeLessThan(0.15);
    expect(usualTop(previous, length)).toBe(1);
    expect(shadeOf(0.25, 1)).toBe(0.5);
    expect(shadeOf(0.5, 0.1)).toBe(1);
  });
});

it("the strongest come first, of equals the nearest, and none without weight", () => {
  expect(strongest([0.2, 0, 0.5, 0.2], 5)).toEqual([2, 3, 0]);
  expect(strongest([0.2, 0, 0.5, 0.2], 1)).toEqual([2]);
});
