/** What a cell of the lens is shaded by, as a share of the strongest colour. */
import { type Arrays, field } from "../../api/arrays";
import { percent } from "../../parts/Odds";

export const MEASURES = ["probability", "uncertainty", "surprise"] as const;
export type Measure = (typeof MEASURES)[number];

interface Told {
  readonly title: string;
  /** What faint and strong colours mean, for who sees the scale for the first time. */
  readonly sentence: string;
  readonly faint: string;
  readonly strong: string;
}

export const TOLD: Record<Measure, Told> = {
  probability: {
    title: "Sureness",
    sentence: "The stronger the colour, the more probable the model held the word.",
    faint: "0 %",
    strong: "100 %",
  },
  uncertainty: {
    title: "Doubt",
    sentence:
      "The stronger the colour, the more words were in question (the entropy of the guess).",
    faint: "one word",
    strong: "any word",
  },
  surprise: {
    title: "Surprise",
    sentence: "The stronger the colour, the less the token that really follows was expected.",
    faint: "expected",
    strong: "unexpected",
  },
};

/** The measure of every cell in [0, 1], by depth and position; NaN where the text ends. */
export function shares(lens: Arrays, measure: Measure, vocabularySize: number): Float32Array {
  const alternatives = field(lens, "logprobs");
  const [M, T, A] = alternatives.shape as [number, number, number];
  const most = Math.log(vocabularySize);
  const found = new Float32Array(M * T);
  for (let depth = 0; depth < M; depth++) {
    for (let position = 0; position < T; position++) {
      const cell = depth * T + position;
      if (measure === "probability") found[cell] = Math.exp(alternatives.data[cell * A]!);
      else if (measure === "uncertainty") {
        found[cell] = field(lens, "entropy_nats").data[cell]! / most;
      } else {
        const last = position === T - 1;
        // Whoever expects nothing in particular is off by the logarithm of the vocabulary.
        found[cell] = last ? NaN : field(lens, "nats").data[depth * (T - 1) + position]! / most;
      }
    }
  }
  return found;
}

/** The measure of one cell in words. */
export function measured(measure: Measure, share: number, vocabularySize: number): string {
  if (measure === "probability") return percent(share);
  if (Number.isNaN(share)) return "nothing follows";
  return `${((share * Math.log(vocabularySize)) / Math.LN2).toFixed(1)} bits`;
}
