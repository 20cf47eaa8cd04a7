/** How much of an answer a patch brings back, as a share: 0 as in the corrupted text, 1 as in the clean
 * one, below 0 when the answer becomes less likely still.
 */
import { type Arrays, field } from "../../api/arrays";
import type { Matrix } from "../../parts/Heatmap";

/** With less between the two texts, in nats, there is nothing to bring back. */
export const LEAST_GAP = 0.05;

export interface Recovery {
  readonly clean: number;
  readonly corrupted: number;
  readonly answer: number;
  readonly byPosition: Matrix;
  readonly byHead: Matrix;
}

export function recoveryOf(patching: Arrays): Recovery {
  const [clean, corrupted] = [
    field(patching, "clean_logprob").data[0]!,
    field(patching, "corrupted_logprob").data[0]!,
  ];
  const matrix = (name: string): Matrix => {
    const { data, shape } = field(patching, name);
    const values = Float32Array.from(data, (each) => (each - corrupted) / (clean - corrupted));
    return { values, rows: shape[0]!, columns: shape[1]! };
  };
  return {
    clean,
    corrupted,
    answer: field(patching, "answer").data[0]!,
    byPosition: matrix("patched_position_logprobs"),
    byHead: matrix("patched_head_logprobs"),
  };
}

/** The row and column of the largest value. */
export function largest({ values, columns }: Matrix): [number, number] {
  let best = 0;
  for (let index = 1; index < values.length; index++) {
    if (values[index]! > values[best]!) best = index;
  }
  return [Math.floor(best / columns), best % columns];
}

/** A share of recovery in words. */
export function recovered(share: number): string {
  const percent = Math.round(100 * share);
  if (percent === 0) return "nothing comes back";
  if (percent < 0) return `${-percent} % further away`;
  return `${percent} % comes back`;
}
