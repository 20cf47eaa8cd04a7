/** One checkpoint's answers to the question that all of them are asked: a frame of the film. */
import { type Arrays, at, field, type Field } from "../../api/arrays";
import { askJson, patiently, type Schemas } from "../../api/client";
import { inspectKept, type RunDetail } from "../../api/queries";
import { fetchKept } from "../../api/resource";
import type { Matrix } from "../../parts/Heatmap";
import type { Odd } from "../../parts/Odds";

export type Written = Schemas["WrittenToken"];

/** What is asked of every checkpoint alike. */
export interface Question {
  readonly run: string;
  readonly prompt: string;
  /** 0: the likeliest token each time. */
  readonly temperature: number;
  readonly seed: number;
  readonly max_tokens: number;
  /** Of which layer and head attention is asked; null: of all. Undefined where there is none. */
  readonly looks?: { readonly layer: number; readonly head: number } | null | undefined;
  /** Whether the model can be read before its last layer. */
  readonly lens: boolean;
}

export interface Frame {
  readonly step: number;
  readonly prompt: readonly number[];
  readonly written: readonly Written[];
  /** The loss of token p + 1 of the prompt at place p. */
  readonly nats: ArrayLike<number>;
  /** What comes next by depth, position and rank; the last depth is the model itself. */
  readonly tokens: Field;
  readonly logprobs: Field;
  readonly attention: Arrays | null;
}

export const ALTERNATIVES = 5;
const MOST_BYTES = 48 << 20;
const HALF_BYTES = 2;

/** Attention of all heads is asked where that of all checkpoints together is not too much to keep:
 * then another head is shown without asking again. */
export function looksOf(
  run: RunDetail,
  prompt: string,
  checkpoints: number,
  chosen: { layer: number; head: number },
): Question["looks"] {
  if (!run.sites.includes("attention")) return undefined;
  // A token has at least a byte, and there is one before the first.
  const length = Math.min(new TextEncoder().encode(prompt).length + 1, run.context);
  const bytes = HALF_BYTES * run.n_layer * run.n_head * length ** 2 * checkpoints;
  return bytes <= MOST_BYTES ? null : chosen;
}

/** Asks one thing after the other: a server keeps few checkpoints in memory. */
export async function loadFrame(
  question: Question,
  step: number,
  signal: AbortSignal,
): Promise<Frame> {
  const { run, prompt, temperature, seed, max_tokens, looks, lens } = question;
  const asked = { run, step, prompt };
  const drawing = { ...asked, temperature, seed, max_tokens, alternatives: 0 };
  const text = await fetchKept(
    `text ${JSON.stringify(drawing)}`,
    (signal) => patiently(() => askText(drawing, signal), signal),
    signal,
  );
  const odds = await inspectKept(
    lens ? "lens" : "tokens",
    { ...asked, alternatives: ALTERNATIVES },
    signal,
  );
  const places = looks ? { layers: [looks.layer], heads: [looks.head] } : {};
  const attention =
    looks === undefined
      ? null
      : await inspectKept("attention", { ...asked, precision: "float16", ...places }, signal);
  return frameOf(step, text, odds, attention, lens);
}

function askText(body: object, signal: AbortSignal): Promise<Schemas["TextAnswer"]> {
  return askJson("/api/inspect/text", { body, signal });
}

export function frameOf(
  step: number,
  text: Pick<Schemas["TextAnswer"], "tokens">,
  odds: Arrays,
  attention: Arrays | null,
  lens: boolean,
): Frame {
  const [nats, tokens, logprobs] = ["nats", "alternatives", "logprobs"].map((name) => {
    const found = field(odds, name);
    // Without a lens there is one depth, the last.
    return lens ? found : { ...found, shape: [1, ...found.shape] };
  }) as [Field, Field, Field];
  return {
    step,
    prompt: [...field(odds, "tokens").data],
    written: text.tokens,
    nats: at(nats, nats.shape[0]! - 1).data,
    tokens,
    logprobs,
    attention,
  };
}

/** The likeliest tokens after `position`, as read at a depth. */
export function oddsOf(frame: Frame, depth: number, position: number): Odd[] {
  const logprobs = at(frame.logprobs, depth, position).data;
  return [...at(frame.tokens, depth, position).data].map((id, rank) => ({
    id,
    logprob: logprobs[rank]!,
  }));
}

/** What the model itself says comes after `position`. */
export function saidAfter(frame: Frame, position: number): Odd {
  return oddsOf(frame, frame.tokens.shape[0]! - 1, position)[0]!;
}

/** Where a head looks from every position; null where that was not asked. */
export function lookOf(frame: Frame, layer: number, head: number): Matrix | null {
  if (!frame.attention) return null;
  const [row, column] = [
    (frame.attention.beside.layers as number[]).indexOf(layer),
    (frame.attention.beside.heads as number[]).indexOf(head),
  ];
  if (row < 0 || column < 0) return null;
  const size = frame.prompt.length;
  const { data } = at(field(frame.attention, "probabilities"), row, column);
  return { values: data, rows: size, columns: size };
}

/** How dark the weights of a look are drawn, from 0 to 1: by their square root, so that faint ones are
 * seen as well. */
export function shadesOf({ values, rows, columns }: Matrix): Matrix {
  return { values: Float32Array.from(values, (weight) => Math.sqrt(weight)), rows, columns };
}

/** The mean loss of the prompt's tokens, in nats; null for a prompt of one token. */
export function meanNats(frame: Frame): number | null {
  const { length } = frame.nats;
  if (length === 0) return null;
  let sum = 0;
  for (let index = 0; index < length; index++) sum += frame.nats[index]!;
  return sum / length;
}
