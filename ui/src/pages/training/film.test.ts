import { expect, it } from "vitest";
import { nextOf, rowsOf, someOf, withFrame } from "./film";

const frames = (...steps: number[]) => steps.map((step) => ({ step, ids: [step] }));

it("keeps answers in the order of their steps, one of each", () => {
  const all = withFrame(withFrame(frames(1, 9), { step: 4, ids: [0] }), { step: 9, ids: [7] });
  expect(all.map(({ step }) => step)).toEqual([1, 4, 9]);
  expect(all.at(-1)!.ids).toEqual([7]);
});

it("asks the newest first, and the earlier ones only when they are wanted", () => {
  expect(nextOf([], [], true)).toBeNull();
  expect(nextOf([1, 2, 3], [], true)).toBe(3);
  expect(nextOf([1, 2, 3], frames(3), false)).toBeNull();
  expect(nextOf([1, 2, 3], frames(3), true)).toBe(1);
  expect(nextOf([1, 2, 3], frames(1, 2, 3), true)).toBeNull();
});

it("keeps places for the answers that are awaited", () => {
  expect(rowsOf([1, 2, 3], frames(3), false).map(({ step }) => step)).toEqual([3]);
  expect(rowsOf([1, 2, 3], frames(2, 9), true)).toEqual([
    { step: 1, ids: null },
    { step: 2, ids: [2] },
    { step: 3, ids: null },
    { step: 9, ids: [9] },
  ]);
});

it("takes a few of many checkpoints, with the first and the last", () => {
  const many = Array.from({ length: 22 }, (_, index) => 10 * index);
  const some = someOf(many);
  expect(some).toHaveLength(8);
  expect([some[0], some.at(-1)]).toEqual([0, 210]);
  expect(new Set(some).size).toBe(8);
});
