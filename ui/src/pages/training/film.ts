/** What a run answers to one prompt as it learns: an answer of each checkpoint that is asked. */
import { askJson, patiently, type Schemas } from "../../api/client";
import { keep, keptValue } from "../../api/resource";
import { type Polled, usePolled } from "../../api/polled";

export interface Frame {
  readonly step: number;
  readonly ids: readonly number[];
}

type Frames = readonly Frame[];

const EVERY_MS = 500;
const MOST_EARLIER = 8;
// The seed is fixed, so that what changes is what was learnt.
const ASKED = { max_tokens: 24, temperature: 0.7, seed: 1, alternatives: 0 };

/** Frames with another, in the order of their steps. */
export function withFrame(frames: Frames, frame: Frame): Frames {
  const others = frames.filter(({ step }) => step !== frame.step);
  return [...others, frame].sort((a, b) => a.step - b.step);
}

/** Some of many checkpoints, evenly among them, with the first and the last. */
export function someOf(steps: readonly number[]): number[] {
  if (steps.length <= MOST_EARLIER) return [...steps];
  return Array.from(
    { length: MOST_EARLIER },
    (_, index) => steps[Math.round((index * (steps.length - 1)) / (MOST_EARLIER - 1))]!,
  );
}

/** The step to ask next: the newest, and of the earlier ones those that are wanted. */
export function nextOf(steps: readonly number[], frames: Frames, earlier: boolean): number | null {
  const asked = new Set(frames.map(({ step }) => step));
  const newest = steps.at(-1);
  if (newest !== undefined && !asked.has(newest)) return newest;
  return (earlier ? someOf(steps) : []).find((step) => !asked.has(step)) ?? null;
}

export interface Row {
  readonly step: number;
  /** null: not answered yet. */
  readonly ids: readonly number[] | null;
}

/** What is shown: the answers, and places for those that are awaited. */
export function rowsOf(steps: readonly number[], frames: Frames, earlier: boolean): Row[] {
  const asked = new Set(frames.map(({ step }) => step));
  const awaited = (earlier ? someOf(steps) : []).filter((step) => !asked.has(step));
  const rows = [...frames, ...awaited.map((step) => ({ step, ids: null }))];
  return rows.sort((a, b) => a.step - b.step);
}

/** Asks the newest checkpoint of a run, and again when there is a newer one.
 *
 * The next question waits for the answer before: a checkpoint that came and was passed meanwhile
 * is asked only when `earlier` ones are wanted.
 */
export function useFilm(
  run: string | null,
  steps: readonly number[],
  prompt: string,
  { live, earlier, again }: { live: boolean; earlier: boolean; again: unknown },
): Polled<Frames> {
  const key = `film ${run} ${prompt}`;
  const known = () => keptValue<Frames>(key) ?? [];
  const ask = async (signal: AbortSignal): Promise<Frames> => {
    const step = nextOf(steps, known(), earlier);
    if (step === null) return known();
    const body = { ...ASKED, run, prompt, step };
    const answer = await patiently(
      () => askJson<Schemas["TextAnswer"]>("/api/inspect/text", { body, signal }),
      signal,
    );
    keep(key, withFrame(known(), { step, ids: answer.tokens.map(({ id }) => id) }));
    return known();
  };
  const missing = nextOf(steps, known(), earlier) !== null;
  const ready = run && prompt && steps.length > 0;
  return usePolled(ready ? key : null, ask, live || missing ? EVERY_MS : null, again);
}
