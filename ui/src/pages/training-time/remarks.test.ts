import { expect, test } from "vitest";
import { Vocabulary } from "../../text/vocabulary";
import { type Frame, frameOf, looksOf } from "./frame";
import { moved, remarksOf } from "./remarks";
import type { RunDetail } from "../../api/queries";

const [A, B, C] = [0, 1, 2] as const;
const WORDS = new Vocabulary(["61", "62", "63"], {});
const PLACE = { position: 1, layer: 0, head: 0 };

/** The prompt "ab", with the loss of b, what is expected after it, and where b looks. */
function frame(
  step: number,
  { nats, next, text, atFirst }: { nats: number; next: number; text: number[]; atFirst: number },
): Frame {
  const [shape, data] = [[2, 1], Int32Array.of(B, next)];
  const odds = {
    beside: {},
    fields: {
      tokens: { shape: [2], data: Int32Array.of(A, B) },
      nats: { shape: [1], data: Float32Array.of(nats) },
      alternatives: { shape, data },
      logprobs: { shape, data: new Float32Array(2) },
    },
  };
  const looks = {
    beside: { layers: [0], heads: [0] },
    fields: {
      probabilities: { shape: [1, 1, 2, 2], data: Float32Array.of(1, 0, atFirst, 1 - atFirst) },
    },
  };
  const tokens = text.map((id) => ({ id, logprob: 0, alternatives: [] }));
  return frameOf(step, { tokens }, odds, looks, false);
}

const FILM = [
  frame(0, { nats: 5, next: A, text: [A, A, A], atFirst: 0.5 }),
  frame(1, { nats: 4.5, next: C, text: [A, A, A], atFirst: 0.5 }),
  frame(4, { nats: 2, next: B, text: [A, A, B], atFirst: 0.5 }),
  frame(9, { nats: 1.5, next: C, text: [A, B, C], atFirst: 0.9 }),
  frame(20, { nats: 1.4, next: C, text: [A, B, C], atFirst: 0.8 }),
];

test("it is told where the loss falls most, the answer settles, the text and the head change", () => {
  const remarks = remarksOf(FILM, PLACE, WORDS);
  const steps = remarks.map(({ step }) => step);
  expect(steps).toEqual([4, 4, 9, 9]);
  const told = remarks.map(({ text }) => text).join("\n");
  expect(told).toContain(
    "Between steps 1 and 4 the loss on the prompt falls most: from 4.50 to 2.00",
  );
  expect(told).toContain(
    "From step 9 on it expects “c” after “b”, as at the end; just before that, “b”",
  );
  expect(told).toContain("From step 1 to 4 its continuation gains most variety: from 1 to 2");
  expect(told).toContain("changes most between steps 4 and 9: 20 % of its attention");
});

test("nothing is told that did not happen", () => {
  const still = [FILM[4]!, { ...FILM[4]!, step: 40 }];
  expect(remarksOf(still, PLACE, WORDS).map(({ text }) => text)).toEqual([
    "Every checkpoint expects “c” after “b”.",
  ]);
  expect(remarksOf(FILM.slice(0, 1), PLACE, WORDS)).toEqual([]);
  const blind = FILM.map((each) => ({ ...each, attention: null }));
  expect(remarksOf(blind, PLACE, WORDS).some(({ text }) => text.includes("Head"))).toBe(false);
});

test("how much of a head's attention moved is a share of all its rows", () => {
  expect(moved(FILM[2]!, FILM[3]!, 0, 0)).toBeCloseTo(0.2, 6);
  expect(moved(FILM[2]!, FILM[3]!, 1, 0)).toBeNull();
});

test("attention of all heads is asked for where it can be kept, else of the chosen one", () => {
  const run = { sites: ["attention"], n_layer: 3, n_head: 4, context: 256 } as unknown as RunDetail;
  const chosen = { layer: 1, head: 2 };
  expect(looksOf(run, "Once", 22, chosen)).toBeNull();
  expect(looksOf({ ...run, n_layer: 12, n_head: 12 }, "x".repeat(400), 22, chosen)).toBe(chosen);
  expect(looksOf({ ...run, sites: [] }, "Once", 22, chosen)).toBeUndefined();
});
