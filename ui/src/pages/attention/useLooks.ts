/** Asks where the heads look; of a text whose answer would be too large, in one layer at a time. */
import { useMemo } from "react";
import { field } from "../../api/arrays";
import { type Question, type Subject, useInspection } from "../../api/queries";
import type { Resource } from "../../api/resource";
import type { Arrays } from "../../api/arrays";
import { usePlace } from "../../place";
import { type Chosen, chosenFrom } from "./chosen";
import { Looks } from "./looks";

export interface Looking {
  readonly answer: Arrays;
  readonly looks: Looks;
  readonly tokens: readonly number[];
  /** What the address names, as far as this answer has it. */
  readonly chosen: Chosen;
  /** How many layers the model has, though the answer may tell of one. */
  readonly layers: number;
}

interface Found {
  readonly looking: Looking | null;
  readonly problem: Resource<Arrays>["problem"];
  readonly fresh: boolean;
}

const TOO_LARGE = 413;

export function useLooks({ run, step }: Subject, prompt: string, again: number): Found {
  const { values } = usePlace();
  const question: Question | null = prompt ? { run: run.name, step, prompt } : null;
  const whole = useInspection("attention", question, again);
  const byLayer = question !== null && whole.problem?.status === TOO_LARGE;
  const wanted = chosenFrom(values, { layers: run.n_layer, heads: run.n_head, length: Infinity });
  const one = useInspection(
    "attention",
    byLayer ? { ...question, layers: [wanted.layer], precision: "float16" } : null,
    again,
  );
  const { value: answer, problem, fresh } = byLayer ? one : whole;
  const leaveOutFirst = wanted.leaveOutFirst;
  const looks = useMemo(() => answer && new Looks(answer, leaveOutFirst), [answer, leaveOutFirst]);
  const tokens = useMemo(() => (answer ? [...field(answer, "tokens").data] : []), [answer]);
  if (!answer || !looks) return { looking: null, problem, fresh };
  const layers = byLayer ? run.n_layer : looks.layers.length;
  const named = chosenFrom(values, { layers, heads: looks.heads, length: looks.length });
  // While another layer is awaited, the last one stays.
  const layer = looks.layers.includes(named.layer) ? named.layer : looks.layers[0]!;
  return {
    looking: { answer, looks, tokens, layers, chosen: { ...named, layer } },
    problem,
    fresh,
  };
}
