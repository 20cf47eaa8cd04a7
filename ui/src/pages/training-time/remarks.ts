/** What happens in the film, read off its own numbers: a sentence each, and the step to look at. */
import type { Vocabulary } from "../../text/vocabulary";
import { type Frame, lookOf, meanNats, saidAfter } from "./frame";

export interface Remark {
  readonly step: number;
  readonly text: string;
}

/** Where a measure changes most from one frame to the next. */
function greatest(
  frames: readonly Frame[],
  change: (before: Frame, after: Frame) => number | null,
): { before: Frame; after: Frame; by: number } | null {
  let found = null as { before: Frame; after: Frame; by: number } | null;
  frames.slice(1).forEach((after, index) => {
    const before = frames[index]!;
    const by = change(before, after);
    if (by !== null && by > (found?.by ?? 0)) found = { before, after, by };
  });
  return found;
}

const LEAST_FALL_NATS = 0.01;

function fall(frames: readonly Frame[]): Remark | null {
  const found = greatest(frames, (before, after) => {
    const [from, to] = [meanNats(before), meanNats(after)];
    return from === null || to === null ? null : from - to;
  });
  if (!found || found.by < LEAST_FALL_NATS) return null;
  const { before, after } = found;
  const [from, to] = [meanNats(before)!.toFixed(2), meanNats(after)!.toFixed(2)];
  return {
    step: after.step,
    text:
      `Between steps ${before.step} and ${after.step} the loss on the prompt falls most: ` +
      `from ${from} to ${to} nats a token.`,
  };
}

function settled(
  frames: readonly Frame[],
  position: number,
  vocabulary: Vocabulary,
): Remark | null {
  const last = saidAfter(frames.at(-1)!, position).id;
  const before = frames.findLastIndex((frame) => saidAfter(frame, position).id !== last);
  const since = frames[before + 1]!;
  const [word, place] = [last, since.prompt[position]!].map((id) => `“${vocabulary.label(id)}”`);
  if (before < 0) {
    return { step: since.step, text: `Every checkpoint expects ${word} after ${place}.` };
  }
  const other = `“${vocabulary.label(saidAfter(frames[before]!, position).id)}”`;
  return {
    step: since.step,
    text:
      `From step ${since.step} on it expects ${word} after ${place}, as at the end; ` +
      `just before that, ${other}.`,
  };
}

function different(frame: Frame): number {
  return new Set(frame.written.map(({ id }) => id)).size;
}

function variety(frames: readonly Frame[]): Remark | null {
  const found = greatest(frames, (before, after) => different(after) - different(before));
  if (!found) return null;
  const { before, after } = found;
  return {
    step: after.step,
    text:
      `From step ${before.step} to ${after.step} its continuation gains most variety: ` +
      `from ${different(before)} to ${different(after)} different tokens.`,
  };
}

/** The share of a head's attention that lies elsewhere in the other frame, over all positions. */
export function moved(before: Frame, after: Frame, layer: number, head: number): number | null {
  const [one, other] = [lookOf(before, layer, head), lookOf(after, layer, head)];
  if (!one || !other || one.rows !== other.rows) return null;
  let sum = 0;
  for (let cell = 0; cell < one.values.length; cell++) {
    sum += Math.abs(one.values[cell]! - other.values[cell]!);
  }
  return sum / 2 / one.rows;
}

function turn(frames: readonly Frame[], layer: number, head: number): Remark | null {
  const found = greatest(frames, (before, after) => moved(before, after, layer, head));
  if (!found) return null;
  const share = Math.round(100 * found.by);
  return {
    step: found.after.step,
    text:
      `Head ${head} of layer ${layer} changes most between steps ${found.before.step} and ` +
      `${found.after.step}: ${share} % of its attention moves elsewhere.`,
  };
}

/** What to watch for, in the order of the steps. */
export function remarksOf(
  frames: readonly Frame[],
  place: { position: number; layer: number; head: number },
  vocabulary: Vocabulary,
): Remark[] {
  if (frames.length < 2) return [];
  return [
    fall(frames),
    settled(frames, place.position, vocabulary),
    variety(frames),
    turn(frames, place.layer, place.head),
  ]
    .filter((each) => each !== null)
    .sort((one, other) => one.step - other.step);
}
