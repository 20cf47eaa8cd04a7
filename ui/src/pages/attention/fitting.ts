/** A text that is longer than the model can read, cut to its end. */
import type { Problem } from "../../api/client";

/** A little less than what fits: the end of a text may have more tokens to the letter than the whole. */
const SHARE = 0.97;

/** The end of `prompt` that fits; null for a problem of another kind. */
export function endThatFits(prompt: string, problem: Problem | null): string | null {
  if (problem?.tag !== "context_length_exceeded") return null;
  const { found, required } = problem.told;
  if (typeof found !== "number" || typeof required !== "number") return null;
  const letters = [...prompt];
  const kept = letters.slice(-Math.max(Math.floor((letters.length * SHARE * required) / found), 1));
  // From a word on, where there is one.
  const space = kept.findIndex((letter) => /\s/.test(letter));
  return kept.slice(space + 1 < kept.length ? space + 1 : 0).join("");
}
