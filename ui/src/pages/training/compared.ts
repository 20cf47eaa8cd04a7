/** Runs laid over each other: which, what of them, and along what. */
import type { Run } from "../../api/queries";
import type { Series } from "../../parts/Curve";
import { lastOf, lineOf, median, secondsAt, type Story, tokensPerStep } from "../../api/story";
import { shortName } from "./words";

export const MOST_COMPARED = 6;
export const NONE = "-";

export type Measure = "val/loss" | "train/loss" | "val/excess_nats";
export type Along = "steps" | "tokens" | "seconds";

/** Names as one value of the place. */
export function joinNames(names: readonly string[]): string {
  return names.length ? names.map(encodeURIComponent).join(",") : NONE;
}

export function splitNames(value: string): string[] {
  if (value === NONE || value === "") return [];
  return value.split(",").map(decodeURIComponent);
}

/** Whether losses per token of two runs mean the same. */
export function comparable(one: Run, other: Run): boolean {
  return (
    one.corpus_fingerprint === other.corpus_fingerprint &&
    one.tokenizer_sha256 === other.tokenizer_sha256
  );
}

/** What is compared before anybody has chosen: the served run, and the newest that are like it. */
export function usualNames(runs: readonly Run[], served: string): string[] {
  const own = runs.find(({ name }) => name === served);
  if (!own) return [];
  const alike = runs.filter((run) => run !== own && comparable(run, own) && run.steps.length > 0);
  alike.sort((a, b) => (b.created ?? "").localeCompare(a.created ?? ""));
  return [own, ...alike].slice(0, MOST_COMPARED - 1).map(({ name }) => name);
}

/** The lines of the chosen runs that have them; each keeps the colour of its place among them. */
export function linesOf(
  chosen: readonly Run[],
  stories: ReadonlyMap<string, Story>,
  measure: Measure,
  along: Along,
): Series[] {
  return chosen.flatMap((run, index) => {
    const story = stories.get(run.name);
    const line = story && lineOf(story, measure);
    const steps = story && line && placesOf(story, line.steps, along);
    if (!steps?.length) return [];
    const [name, colour] = [shortName(run.name), `--series-${index + 1}`];
    return [{ name, steps, values: line!.values, colour }];
  });
}

function placesOf(story: Story, steps: readonly number[], along: Along): readonly number[] | null {
  if (along === "steps") return steps;
  if (along === "seconds") return secondsAt(story, steps);
  const tokens = tokensPerStep(story);
  return tokens ? steps.map((step) => step * tokens) : null;
}

export interface Row {
  readonly run: Run;
  readonly parameters: number;
  readonly steps: number | null;
  readonly loss: number | null;
  readonly excess: number | null;
  readonly speed: number | null;
}

export type Column = "name" | Exclude<keyof Row, "run">;

export function rowOf(run: Run, story: Story | undefined): Row {
  return {
    run,
    parameters: run.parameters,
    steps: (story && lineOf(story, "train/loss").steps.at(-1)) ?? run.steps.at(-1) ?? null,
    loss: (story && lastOf(story, "val/loss")) ?? run.validation_loss,
    excess: (story && lastOf(story, "val/excess_nats")) ?? null,
    speed: story ? median(lineOf(story, "perf/tokens_per_sec")) : null,
  };
}

/** Rows in the order of a column; what is not known is last either way. */
export function sortRows(rows: readonly Row[], by: Column, down: boolean): Row[] {
  const sign = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    if (by === "name") return sign * a.run.name.localeCompare(b.run.name);
    const [left, right] = [a[by], b[by]];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return sign * (left - right);
  });
}
