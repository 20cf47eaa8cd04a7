/** What to train: a recipe, for how long, at which rate, and from where. */
import { type FormEvent, useId } from "react";
import { askJson, type Problem, type Schemas } from "../../api/client";
import { useRun } from "../../api/queries";
import { useResource } from "../../api/resource";
import { NumberField, Select, Slider } from "../../parts/Field";
import { ProblemNotice } from "../../parts/Notice";
import { intervals, type Request, requestOf, usePlan } from "./starting";
import { lineOf, median } from "../../api/story";
import { useStories } from "../../api/stories";
import { shortName, spell, spellRate } from "./words";

interface Props {
  /** The name of the served run, whose corpus and tokenizer any run here has. */
  served: string;
  pending: boolean;
  problem: Problem | null;
  onStart: (request: Request) => void;
}

// Wide, because what is too much is for the server to say.
const MOST = 1e9;

export function StartForm({ served, pending, problem, onStart }: Props) {
  const recipes = useResource<Schemas["Recipe"][]>("recipes", (signal) =>
    askJson("/api/recipes", { signal }),
  );
  const run = useRun("").value;
  const story = useStories([served], null).stories.get(served);
  const [plan, set] = usePlan(run, story, recipes.value ?? []);
  const { evaluation, checkpoint } = intervals(plan.steps);
  const ms = story && median(lineOf(story, "perf/step_ms"));
  const short = shortName(served);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onStart(requestOf(plan));
  };
  const steps = [...(run?.steps ?? [])].reverse();
  return (
    <form className="stack start" onSubmit={submit}>
      <div className="stack tight">
        <h2 id="start-title">Start a run</h2>
        <p className="muted small">
          On {run?.corpus ?? "its corpus"}, with the tokenizer of {short}: so all runs can be
          compared.
        </p>
      </div>
      <Recipes
        recipes={recipes.value ?? []}
        chosen={plan.recipe}
        onChoose={(recipe) => set({ recipe, from: null })}
      />
      <ProblemNotice problem={recipes.problem} />
      <div className="settings">
        <NumberField
          label="Steps, each a small correction"
          value={plan.steps}
          min={1}
          max={MOST}
          onChange={(steps) => set({ steps })}
        />
        <Select
          label="Begin with"
          value={plan.from === null ? "" : String(plan.from)}
          options={[
            ["", "new parameters, at random"],
            ...(plan.recipe === "same"
              ? steps.map((step) => [String(step), `what ${short} knew at step ${step}`] as const)
              : []),
          ]}
          onChange={(value) => set({ from: value === "" ? null : Number(value) })}
        />
        <div className="rate">
          <Slider
            label="Learning rate, the size of a correction"
            value={Math.log10(plan.rate)}
            min={-5}
            max={-1}
            step={0.05}
            shown={spellRate(plan.rate)}
            onChange={(power) => set({ rate: Number((10 ** power).toPrecision(2)) })}
          />
          <NumberField
            label="or typed"
            value={plan.rate}
            min={Number.MIN_VALUE}
            max={MOST}
            step="any"
            onChange={(rate) => set({ rate })}
          />
        </div>
      </div>
      <div className="row">
        <button type="submit" className="button primary" disabled={pending}>
          {pending ? "Starting…" : "Start training"}
        </button>
        <p className="muted small">
          {evaluation === checkpoint
            ? `Measured on held-out text and saved every ${every(evaluation)}.`
            : `Measured on held-out text every ${every(evaluation)}, saved every ${every(checkpoint)}.`}
          {ms && plan.recipe === "same"
            ? ` At the pace of ${short}, it takes about ${spell((ms * plan.steps) / 1000)}.`
            : ""}
        </p>
      </div>
      <ProblemNotice problem={problem} />
    </form>
  );
}

function every(steps: number): string {
  return steps === 1 ? "step" : `${steps.toLocaleString("en")} steps`;
}

interface RecipesProps {
  recipes: readonly Schemas["Recipe"][];
  chosen: string;
  onChoose: (name: Schemas["Recipe"]["name"]) => void;
}

function Recipes({ recipes, chosen, onChoose }: RecipesProps) {
  const group = useId();
  return (
    <fieldset className="recipes">
      <legend className="unseen">Recipe</legend>
      {recipes.map(({ name, title, description }) => (
        <label key={name} className="recipe">
          <input
            type="radio"
            name={group}
            value={name}
            checked={name === chosen}
            onChange={() => onChoose(name)}
          />
          <span className="stack">
            <span className="title">{title}</span>
            <span className="muted small">{description}</span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
