import { expect, test } from "vitest";
import type { Arrays } from "../../api/arrays";
import { Vocabulary } from "../../text/vocabulary";
import {
  candidates,
  exchanged,
  formatExchanges,
  kindOf,
  parseExchanges,
  strongest,
} from "./exchange";

const WORDS = [" Tom", " Mia", " sat", " ran", ".", "ed", "<bos>"];
const hex = (text: string) => Buffer.from(text).toString("hex");
const vocabulary = new Vocabulary(WORDS.map(hex), { "6": "<bos>" });

/** What `tokens` answers: at each position the likeliest tokens with their probabilities. */
function answerOf(tokens: number[], odds: [number, number][][], next: number[]): Arrays {
  const width = odds[0]!.length;
  const shape = [tokens.length, width];
  const flat = odds.flat();
  return {
    beside: {},
    fields: {
      tokens: { shape: [tokens.length], data: Int32Array.from(tokens) },
      nats: { shape: [next.length], data: Float32Array.from(next, (p) => -Math.log(p)) },
      alternatives: { shape, data: Int32Array.from(flat, ([id]) => id) },
      logprobs: { shape, data: Float32Array.from(flat, ([, p]) => Math.log(p)) },
    },
  };
}

// <bos> Tom sat.
const CLEAN = answerOf(
  [6, 0, 2, 4],
  [
    [
      [2, 0.5],
      [1, 0.4],
    ],
    [
      [3, 0.6],
      [2, 0.3],
    ],
    [
      [4, 0.9],
      [5, 0.05],
    ],
    [
      [0, 0.7],
      [2, 0.2],
    ],
  ],
  [0.1, 0.3, 0.9],
);

test("exchanges are written as the address has them, and what is no token of the text is left out", () => {
  const clean = [6, 0, 2, 4];
  expect(parseExchanges("1.1,2.3", 4, 7)).toEqual([
    { position: 1, id: 1 },
    { position: 2, id: 3 },
  ]);
  expect(parseExchanges("0.1,9.1,1.99,x.y,1.-1,", 4, 7)).toEqual([]);
  const other = exchanged(clean, parseExchanges("1.1,2.3", 4, 7));
  expect(other).toEqual([6, 1, 3, 4]);
  expect(formatExchanges(clean, other)).toBe("1.1,2.3");
  expect(formatExchanges(clean, clean)).toBe("");
});

test("a name is exchanged for a name, a word for a word, and names come first", () => {
  expect(kindOf(" Tom")).toBe(kindOf(" Mia"));
  expect(new Set([" Tom", " sat", "Tom", "ed", ".", "12"].map(kindOf)).size).toBe(6);
  expect(candidates(CLEAN, vocabulary)).toEqual([
    { position: 1, id: 1 },
    { position: 2, id: 3 },
  ]);
});

test("the answer that is followed is the likely one that an exchange makes unlikely", () => {
  const other = answerOf(
    [6, 1, 2, 4],
    [
      [
        [2, 0.5],
        [1, 0.4],
      ],
      [
        [3, 0.6],
        [2, 0.3],
      ],
      [
        [5, 0.5],
        [4, 0.1],
      ],
      [
        [0, 0.7],
        [2, 0.2],
      ],
    ],
    [0.4, 0.3, 0.1],
  );
  const found = strongest(CLEAN, other, { position: 1, id: 1 })!;
  // After " sat" the full stop falls from 0.9 to 0.1; the end of the text does not change.
  expect([found.end, found.answer]).toEqual([2, 4]);
  expect(found.weight).toBeCloseTo(0.9 * Math.log(9));
  expect(strongest(CLEAN, CLEAN, { position: 1, id: 0 })!.weight).toBeCloseTo(0);
});
