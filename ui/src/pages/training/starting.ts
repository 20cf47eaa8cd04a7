/** What a run is asked for, as the place holds it, and how it is asked. */
import type { Schemas } from "../../api/client";
import type { RunDetail } from "../../api/queries";
import { choose, usePlace } from "../../place";
import { lineOf, type Story } from "../../api/story";

export type Request = Schemas["TrainingRequest"];
export type RecipeName = Schemas["Recipe"]["name"];

export interface Plan {
  readonly recipe: RecipeName;
  readonly steps: number;
  readonly rate: number;
  /** A step of the served run to go on from; null: new parameters. */
  readonly from: number | null;
}

const USUAL_STEPS = 400;
const USUAL_RATE = 0.001;

/** The highest rate that a run has used: its schedule's peak. */
export function peakRate(story: Story | undefined): number | null {
  const rates = story ? lineOf(story, "train/lr").values.filter((rate) => rate !== null) : [];
  return rates.length ? Number(Math.max(...rates).toPrecision(2)) : null;
}

/** As often as one likes to look: about 20 measurements and 8 checkpoints, at round numbers. */
export function intervals(steps: number): { evaluation: number; checkpoint: number } {
  return { evaluation: roundly(steps / 20), checkpoint: roundly(steps / 8) };
}

/** 1, 2 or 5 times a power of ten, not above `number` but for 1. */
export function roundly(number: number): number {
  if (!(number >= 1)) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [5, 2, 1].map((each) => each * power).find((each) => each <= number) ?? 1;
}

export function requestOf(plan: Plan): Request {
  const { evaluation, checkpoint } = intervals(plan.steps);
  return {
    train_steps: plan.steps,
    learning_rate: plan.rate,
    eval_interval: evaluation,
    checkpoint_interval: checkpoint,
    resume_from: plan.from,
    recipe: plan.recipe,
  };
}

/** The plan of the place; what it does not say is as the served run was. */
export function usePlan(
  served: RunDetail | undefined,
  story: Story | undefined,
  recipes: readonly Schemas["Recipe"][],
): [Plan, (changes: Partial<Plan>) => void] {
  const { values } = usePlace();
  const recipe = recipes.find(({ name }) => name === values.recipe)?.name ?? "same";
  const from = values.from === undefined ? NaN : Number(values.from);
  const usualSteps = Math.min(served?.total_steps ?? USUAL_STEPS, USUAL_STEPS);
  const plan: Plan = {
    recipe,
    steps: numberOf(values["train-steps"]) ?? usualSteps,
    rate: numberOf(values.rate) ?? peakRate(story) ?? USUAL_RATE,
    from: recipe === "same" && served?.steps.includes(from) ? from : null,
  };
  const set = (changes: Partial<Plan>) => {
    const { recipe, steps, rate, from } = { ...plan, ...changes };
    choose({
      ...("recipe" in changes && { recipe: recipe === "same" ? null : recipe }),
      ...("steps" in changes && { "train-steps": steps }),
      ...("rate" in changes && { rate }),
      ...("from" in changes && { from }),
    });
  };
  return [plan, set];
}

function numberOf(text: string | undefined): number | null {
  const number = Number(text);
  return text && Number.isFinite(number) ? number : null;
}
