import { expect, test } from "vitest";
import { advance, type Text, type Written } from "./writing";

const token = (id: number): Written => ({ id, logprob: -1, alternatives: [] });
const empty: Text = { status: "empty", given: [], tokens: [], problem: null, before: [] };
const begin = (tokens: Written[], keep: boolean) =>
  ({ do: "begin", given: [7], tokens, keep }) as const;

test("tokens come after those that there are", () => {
  let text = advance(empty, begin([], false));
  text = advance(text, { do: "draw", tokens: [token(1)] });
  text = advance(text, { do: "draw", tokens: [token(2), token(3)] });
  text = advance(text, { do: "end", status: "stop" });
  expect(text.tokens.map(({ id }) => id)).toEqual([1, 2, 3]);
  expect(text.status).toBe("stop");
});

test("the prompt is what the first answer says, and a branch does not change it", () => {
  const read = advance(advance(empty, { ...begin([], false), given: [] }), {
    do: "read",
    given: [4, 5],
  });
  expect(read.given).toEqual([4, 5]);
  expect(advance(read, { do: "read", given: [9] }).given).toEqual([4, 5]);
});

test("every branch can be taken back, the latest first", () => {
  const first = advance(empty, { do: "draw", tokens: [token(1), token(2)] });
  const second = advance(first, begin([token(1), token(8)], true));
  const third = advance(second, begin([token(9)], true));
  const ids = (text: Text) => text.tokens.map(({ id }) => id);
  expect(ids(third)).toEqual([9]);
  const back = advance(third, { do: "undo" });
  expect(ids(back)).toEqual([1, 8]);
  expect(ids(advance(back, { do: "undo" }))).toEqual([1, 2]);
  expect(advance(first, { do: "undo" })).toBe(first);
});

test("a new text forgets the branches of the old one", () => {
  const branched = advance(advance(empty, begin([], false)), begin([token(1)], true));
  expect(branched.before).toHaveLength(1);
  expect(advance(branched, begin([], false)).before).toEqual([]);
});

test("a text that has ended cannot be stopped any more", () => {
  const ended = advance(advance(empty, begin([], false)), { do: "end", status: "length" });
  expect(advance(ended, { do: "end", status: "stopped" })).toBe(ended);
  expect(advance(empty, { do: "end", status: "stopped" })).toBe(empty);
});
