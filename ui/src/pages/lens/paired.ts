/** Two answers about the same next token, side by side: how likely each word is in the one and in the
 * other.
 */
import type { Odd } from "../../parts/Odds";
import { type Known, shareIn } from "./reading";

export interface Pair {
  readonly id: number;
  readonly before: Known;
  readonly after: Known;
}

/** The likeliest tokens of both, `count` at most, in the order of the likelier of their two shares. */
export function paired(before: readonly Odd[], after: readonly Odd[], count: number): Pair[] {
  const ids = new Set([...before, ...after].map(({ id }) => id));
  const pairs = [...ids].map((id) => ({
    id,
    before: shareIn(before, id),
    after: shareIn(after, id),
  }));
  const most = ({ before, after }: Pair) =>
    Math.max(before.exact ? before.share : 0, after.exact ? after.share : 0);
  return pairs.sort((a, b) => most(b) - most(a)).slice(0, count);
}

/** How much probability has left the words that had it (total variation); at least, where a word is in
 * one list alone.
 */
export function moved(before: readonly Odd[], after: readonly Odd[]): number {
  return before.reduce(
    (sum, { id, logprob }) => sum + Math.max(Math.exp(logprob) - shareIn(after, id).share, 0),
    0,
  );
}
