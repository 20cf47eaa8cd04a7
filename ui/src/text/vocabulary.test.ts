import { expect, test } from "vitest";
import { Vocabulary } from "./vocabulary";

const hex = (text: string) => Buffer.from(text, "utf8").toString("hex");
const vocabulary = new Vocabulary(
  [hex(" cat"), hex("\n"), "e2", "82ac", "", hex(" "), hex("<img onerror=x>")],
  { 4: "<|bos|>" },
);

test("bytes of several tokens make one text, and special tokens none", () => {
  expect(vocabulary.decode([4, 0, 1, 2, 3])).toBe(" cat\n€");
});

test("what cannot be seen is shown", () => {
  expect(vocabulary.shown(0)).toEqual({ text: " cat", blank: false });
  expect(vocabulary.shown(1)).toEqual({ text: "↵\n", blank: true });
  expect(vocabulary.shown(2)).toEqual({ text: "⟨e2⟩", blank: true });
  expect(vocabulary.shown(4)).toEqual({ text: "<|bos|>", blank: true });
  expect(vocabulary.shown(5).blank).toBe(true);
});

test("a label is one line with its spaces marked", () => {
  expect(vocabulary.label(0)).toBe("·cat");
  expect(vocabulary.label(1)).toBe("↵");
  expect(vocabulary.hex(3)).toBe("82 ac");
});

test("an id beyond the vocabulary is nothing, and no error", () => {
  expect(vocabulary.label(99)).toBe("∅");
  expect(vocabulary.decode([99])).toBe("");
});
