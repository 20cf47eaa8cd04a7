import { expect, test } from "vitest";
import { largest, recovered, recoveryOf } from "./recovery";

test("0 is as likely as in the second text, 1 as in the first, and less is below 0", () => {
  const number = (value: number) => ({ shape: [], data: Float32Array.of(value) });
  const recovery = recoveryOf({
    beside: {},
    fields: {
      answer: { shape: [], data: Int32Array.of(5) },
      clean_logprob: number(-1),
      corrupted_logprob: number(-5),
      patched_position_logprobs: { shape: [1, 4], data: Float32Array.of(-5, -3, -1, -6) },
      patched_head_logprobs: { shape: [2, 1], data: Float32Array.of(-5, -2) },
    },
  });
  expect(Array.from(recovery.byPosition.values)).toEqual([0, 0.5, 1, -0.25]);
  expect(recovery.answer).toBe(5);
  expect(largest(recovery.byPosition)).toEqual([0, 2]);
  expect(largest(recovery.byHead)).toEqual([1, 0]);
  expect(recovered(0.5)).toBe("50 % comes back");
  expect(recovered(-0.25)).toBe("25 % further away");
});
