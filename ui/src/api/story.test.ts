import { describe, expect, it } from "vitest";
import { floorOf, lastOf, median, NOTHING, readOn, secondsAt, tokensPerStep } from "./story";

function news(
  next: number,
  series: Record<string, [number, number | null][]>,
  rewind: number | null = null,
) {
  const lines = Object.entries(series).map(([name, points]) => [
    name,
    { steps: points.map(([step]) => step), values: points.map(([, value]) => value) },
  ]);
  return { next, rewind, more: false, series: Object.fromEntries(lines) };
}

const tell = (series: Record<string, [number, number | null][]>) =>
  readOn(NOTHING, news(1, series));

describe("a story", () => {
  it("goes on where it was read to, and keeps what is not in the news", () => {
    const before = readOn(NOTHING, news(2, { a: [[1, 5]], b: [[1, 7]] }));
    const after = readOn(before, news(3, { a: [[2, 4]] }));
    expect(after.next).toBe(3);
    expect(after.series.a).toEqual({ steps: [1, 2], values: [5, 4] });
    expect(after.series.b).toEqual({ steps: [1], values: [7] });
  });

  it("drops what a resume took back, also of lines that have no news", () => {
    const before = tell({
      a: [
        [10, 3],
        [20, 2],
      ],
      b: [[20, 9]],
    });
    const after = readOn(before, news(9, { a: [[15, 2.5]] }, 10));
    expect(after.series.a).toEqual({ steps: [10, 15], values: [3, 2.5] });
    expect(after.series.b!.steps).toEqual([]);
  });

  it("starts anew when the log is another one", () => {
    const after = readOn(tell({ a: [[0, 3]] }), news(1, { a: [[0, 8]] }, -1));
    expect(after.series.a).toEqual({ steps: [0], values: [8] });
  });

  it("believes the last word on a step", () => {
    const before = tell({
      a: [
        [1, 5],
        [2, 4],
      ],
    });
    const after = readOn(
      before,
      news(3, {
        a: [
          [2, 3],
          [3, 2],
        ],
      }),
    );
    expect(after.series.a).toEqual({ steps: [1, 2, 3], values: [5, 3, 2] });
  });
});

describe("what is derived from a story", () => {
  it("takes the last value that is a number", () => {
    const story = tell({
      a: [
        [1, 5],
        [2, null],
      ],
    });
    expect(lastOf(story, "a")).toBe(5);
    expect(lastOf(story, "b")).toBeNull();
  });

  it("finds the floor per token from the excess per character", () => {
    // Two bytes a token: 3 nats a token are 1.5 a byte; 0.5 of them are too many.
    const story = tell({
      "val/loss": [[9, 3]],
      "val/bits_per_byte": [[9, 1.5 / Math.LN2]],
      "val/excess_nats": [[9, 0.5]],
    });
    expect(floorOf(story)).toBeCloseTo(2, 10);
    expect(floorOf(tell({ "val/loss": [[9, 3]] }))).toBeNull();
  });

  it("counts the tokens of an update", () => {
    const story = tell({ "perf/tokens_per_sec": [[5, 10_240]], "perf/step_ms": [[5, 200]] });
    expect(tokensPerStep(story)).toBe(2048);
  });

  it("adds up the time of updates at the pace of each stretch", () => {
    const story = tell({
      "perf/step_ms": [
        [10, 100],
        [20, 300],
      ],
    });
    expect(secondsAt(story, [0, 5, 10, 15, 20, 30])).toEqual([0, 0.5, 1, 2.5, 4, 7]);
    expect(secondsAt(NOTHING, [0])).toBeNull();
  });

  it("takes a median that one slow step does not move", () => {
    expect(median({ steps: [1, 2, 3, 4], values: [10, null, 500, 11] })).toBe(11);
  });
});
