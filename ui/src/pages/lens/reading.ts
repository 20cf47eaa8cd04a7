/** What the inspections of this page answer, read by position and depth. */
import { at, type Arrays, field } from "../../api/arrays";
import type { Question, Subject } from "../../api/queries";
import type { Odd } from "../../parts/Odds";

/** The most alternatives that the server tells. */
export const ALTERNATIVES = 20;

/** Which run and checkpoint is asked. */
export function asked({ run, step }: Subject): Question {
  return { run: run.name, step };
}

export function tokensOf(arrays: Arrays, name = "tokens"): readonly number[] {
  return [...field(arrays, name).data];
}

/** Whether two answers are about one text: while one of them is awaited they may not be. */
export function sameText(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id, index) => id === b[index]);
}

/** The likeliest tokens at a place of an answer: [depth, position], or [position] alone. */
export function oddsAt(arrays: Arrays, ...place: number[]): Odd[] {
  const ids = at(field(arrays, "alternatives"), ...place).data;
  const logprobs = at(field(arrays, "logprobs"), ...place).data;
  return [...ids].map((id, index) => ({ id, logprob: logprobs[index]! }));
}

/** How likely a token is; `exact` is false where only a bound is known. */
export interface Known {
  readonly share: number;
  readonly exact: boolean;
}

/** A token's share in a list of the likeliest; one that is not in it has at most the last one's. */
export function shareIn(odds: readonly Odd[], id: number): Known {
  const found = odds.find((each) => each.id === id);
  if (found) return { share: Math.exp(found.logprob), exact: true };
  const listed = odds.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
  const last = odds.at(-1);
  const rest = Math.max(1 - listed, 0);
  return { share: Math.min(last ? Math.exp(last.logprob) : 1, rest), exact: false };
}

/** The same where the token is the one that follows in the text, whose loss is always told. */
export function shareOfNext(arrays: Arrays, depth: number, position: number): number {
  const nats = field(arrays, "nats");
  return Math.exp(-nats.data[depth * nats.shape[1]! + position]!);
}
