/** What a run has written about itself, put together from news, and what is derived from it. */
import type { Schemas } from "./client";

export interface Line {
  readonly steps: readonly number[];
  readonly values: readonly (number | null)[];
}

export interface Story {
  /** Lines of the log that were read. */
  readonly next: number;
  readonly series: Readonly<Record<string, Line>>;
}

export const NOTHING: Story = { next: 0, series: {} };
const NO_LINE: Line = { steps: [], values: [] };

/** `known` with what has come since; a resumed run takes back what it had written after its start. */
export function readOn(known: Story, news: Schemas["History"]): Story {
  const { rewind } = news;
  const series: Record<string, Line> = {};
  for (const [name, line] of Object.entries(known.series)) {
    series[name] = rewind === null ? line : until(line, rewind);
  }
  for (const [name, line] of Object.entries(news.series)) {
    series[name] = joined(series[name] ?? NO_LINE, line);
  }
  return { next: news.next, series };
}

function until(line: Line, last: number): Line {
  const count = line.steps.filter((step) => step <= last).length;
  return { steps: line.steps.slice(0, count), values: line.values.slice(0, count) };
}

/** The last word on a step counts. */
function joined(before: Line, after: Line): Line {
  const first = after.steps[0];
  if (first === undefined) return before;
  if (first > (before.steps.at(-1) ?? -1)) {
    return {
      steps: [...before.steps, ...after.steps],
      values: [...before.values, ...after.values],
    };
  }
  const all = new Map(before.steps.map((step, index) => [step, before.values[index]!]));
  after.steps.forEach((step, index) => all.set(step, after.values[index]!));
  const steps = [...all.keys()].sort((a, b) => a - b);
  return { steps, values: steps.map((step) => all.get(step)!) };
}

export function lineOf(story: Story, name: string): Line {
  return story.series[name] ?? NO_LINE;
}

/** The last value that is one. */
export function lastOf(story: Story, name: string): number | null {
  return lineOf(story, name).values.findLast((value) => value !== null) ?? null;
}

export function lastStep(story: Story): number | null {
  const trained = lineOf(story, "train/loss").steps.at(-1);
  return trained ?? lineOf(story, "val/loss").steps.at(-1) ?? null;
}

/** A step that was slow on a busy machine says nothing of a model, so the median is told. */
export function median(line: Line): number | null {
  const values = line.values.filter((value) => value !== null).sort((a, b) => a - b);
  return values[values.length >> 1] ?? null;
}

/** The lowest validation loss that any model could have, where the corpus's own entropy is known.
 *
 * The excess is per character, of which each token has several: bits per byte tell how many.
 */
export function floorOf(story: Story): number | null {
  const loss = lastOf(story, "val/loss");
  const excess = lastOf(story, "val/excess_nats");
  const bits = lastOf(story, "val/bits_per_byte");
  if (loss === null || excess === null || !bits) return null;
  return loss - (excess * loss) / (bits * Math.LN2);
}

/** Tokens in one update, from how many pass in a second and how long an update takes. */
export function tokensPerStep(story: Story): number | null {
  const speed = lineOf(story, "perf/tokens_per_sec").values.at(-1);
  const ms = lineOf(story, "perf/step_ms").values.at(-1);
  return speed && ms ? Math.round((speed * ms) / 1000) : null;
}

/** Seconds of updates before each of `steps`; compiling, measuring and saving are not in them. */
export function secondsAt(story: Story, steps: readonly number[]): number[] | null {
  const { steps: known, values } = lineOf(story, "perf/step_ms");
  if (known.length === 0) return null;
  const found: number[] = [];
  let [index, from, seconds] = [0, 0, 0];
  for (const step of steps) {
    while (from < step) {
      const to = index < known.length ? Math.min(known[index]!, step) : step;
      const ms = values[Math.min(index, known.length - 1)] ?? 0;
      seconds += (ms * Math.max(to - from, 0)) / 1000;
      from = Math.max(to, from);
      if (index < known.length && known[index]! <= from) index++;
    }
    found.push(seconds);
  }
  return found;
}
