/** What the rungs are asked about one prompt, and what of their answers is shown. */
import { at, type Arrays, field } from "../../api/arrays";
import { askJson, patiently, type Schemas } from "../../api/client";
import { type Run, useInspection } from "../../api/queries";
import { type Resource, useResource } from "../../api/resource";
import { inTurn } from "../../api/turns";
import type { Odd } from "../../parts/Odds";
import type { Settings } from "../../parts/settings";
import type { Ladder, Model } from "./rungs";

export const ODDS_SHOWN = 5;
const WRITTEN_TOKENS = 40;

/** What each rung makes of the tokens of the prompt. */
export type Guesses = Readonly<Record<Model, Resource<Arrays>>>;

function useGuess(run: Run | undefined, prompt: string, again: unknown): Resource<Arrays> {
  const asked = run && prompt ? { run: run.name, prompt, alternatives: ODDS_SHOWN } : null;
  return useInspection("tokens", asked, again);
}

export function useGuesses({ rungs }: Ladder, prompt: string, again: unknown): Guesses {
  return {
    embedding: useGuess(rungs.embedding, prompt, again),
    single_head: useGuess(rungs.single_head, prompt, again),
    multi_head: useGuess(rungs.multi_head, prompt, again),
    gpt: useGuess(rungs.gpt, prompt, again),
  };
}

/** How a run goes on from the prompt. */
export function useContinuation(
  run: Run | undefined,
  prompt: string,
  { temperature, top_p, top_k, seed }: Settings,
  again: unknown,
): Resource<Schemas["TextAnswer"]> {
  const body = { prompt, temperature, top_p, top_k, seed, max_tokens: WRITTEN_TOKENS };
  const asked = run && prompt ? { run: run.name, ...body } : null;
  return useResource(
    asked && `text ${JSON.stringify(asked)}`,
    (signal) =>
      inTurn(
        () =>
          patiently(
            () => askJson<Schemas["TextAnswer"]>("/api/inspect/text", { body: asked, signal }),
            signal,
          ),
        signal,
      ),
    again,
  );
}

export function tokensOf(answer: Arrays): readonly number[] {
  return Array.from(field(answer, "tokens").data);
}

/** The probability that the model gave to each token of the prompt; of the first, none is known. */
export function surenessOf(answer: Arrays): readonly number[] {
  return [0, ...Array.from(field(answer, "nats").data, (nats) => Math.exp(-nats))];
}

export function meanNats(answer: Arrays): number | null {
  const nats = Array.from(field(answer, "nats").data);
  return nats.length ? nats.reduce((sum, each) => sum + each, 0) / nats.length : null;
}

/** What the model expects after the token at a position. */
export function oddsAfter(answer: Arrays, position: number): readonly Odd[] {
  const ids = at(field(answer, "alternatives"), position).data;
  const logprobs = at(field(answer, "logprobs"), position).data;
  return Array.from(ids, (id, index) => ({ id, logprob: logprobs[index]! }));
}

export interface Looks {
  /** A row for each head of each layer, a column for each token up to the one that looks. */
  readonly values: Float32Array;
  readonly rows: number;
  readonly columns: number;
  readonly labels: readonly string[];
}

/** Where every head looks from a position. */
export function looksFrom(answer: Arrays, position: number): Looks {
  const whole = field(answer, "probabilities");
  const [layers = 0, heads = 0, , keys = 0] = whole.shape;
  const values = new Float32Array(layers * heads * keys);
  const labels: string[] = [];
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      values.set(at(whole, layer, head, position).data, labels.length * keys);
      labels.push(layers > 1 ? `${layer + 1}.${head + 1}` : `${head + 1}`);
    }
  }
  return { values, rows: layers * heads, columns: keys, labels };
}
