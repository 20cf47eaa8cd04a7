/** The four teaching models in order, what each adds to the one before, and where a shelf has them. */
import type { Run } from "../../api/queries";

export const MODELS = ["embedding", "single_head", "multi_head", "gpt"] as const;
export type Model = (typeof MODELS)[number];

export const TOLD: Record<Model, { title: string; short: string; adds: string }> = {
  embedding: {
    title: "Embedding",
    short: "table",
    adds:
      "A table of what follows what. Only the last token counts: whatever stands before it could " +
      "as well not be there.",
  },
  single_head: {
    title: "One head",
    short: "one head",
    adds:
      "Attention: from every token, one head looks back over all before it, and mixes what it " +
      "finds into the prediction.",
  },
  multi_head: {
    title: "Several heads",
    short: "heads",
    adds:
      "Several heads side by side. One may look for who it is about while another looks at the " +
      "word before.",
  },
  gpt: {
    title: "GPT",
    short: "gpt",
    adds:
      "Depth: layers upon layers, each with heads and a small network (MLP) that works on what " +
      "they found. Residual paths and norms make that trainable.",
  },
};

/** Runs of one tokenizer, at most one for each rung. */
export interface Ladder {
  /** The folder that has them all, or else the runs' own names. */
  readonly name: string;
  readonly rungs: Readonly<Partial<Record<Model, Run>>>;
}

function folderOf(name: string): string {
  return name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "";
}

function isModel(name: string): name is Model {
  return (MODELS as readonly string[]).includes(name);
}

function grouped(runs: readonly Run[], by: (run: Run) => string): readonly Run[][] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = by(run);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()];
}

/** Of each model the run that was measured best. */
function best(runs: readonly Run[]): Ladder["rungs"] {
  const loss = (run: Run | undefined) => run?.validation_loss ?? Infinity;
  const rungs: Partial<Record<Model, Run>> = {};
  for (const run of runs) {
    if (isModel(run.model) && !(loss(rungs[run.model]) <= loss(run))) rungs[run.model] = run;
  }
  return rungs;
}

export function heightOf({ rungs }: Ladder): number {
  return Object.keys(rungs).length;
}

/** The ladders of a shelf, whole ones first: folders that have two rungs or more; and, where no
 * folder has all four, what runs of different folders with one tokenizer make up together.
 */
export function ladders(runs: readonly Run[]): readonly Ladder[] {
  const usable = runs.filter(({ model, steps }) => isModel(model) && steps.length > 0);
  const inFolders = grouped(usable, (run) => `${folderOf(run.name)} ${run.tokenizer_sha256}`).map(
    (group) => ({ name: folderOf(group[0]!.name), rungs: best(group) }),
  );
  const found = inFolders.filter((each) => heightOf(each) >= 2);
  if (!found.some((each) => heightOf(each) === MODELS.length)) {
    for (const group of grouped(usable, (run) => run.tokenizer_sha256)) {
      const ladder = { name: "runs of one tokenizer", rungs: best(group) };
      if (heightOf(ladder) > Math.max(1, ...found.map(heightOf))) found.push(ladder);
    }
  }
  return found.sort((a, b) => heightOf(b) - heightOf(a));
}

/** How to get a ladder. */
export const COMMAND = "scripts/run python -m nanogpt_jax.main --config=configs/compare.py";

/** As unsure as among so many equally likely tokens. */
export function choices(nats: number): string {
  const number = Math.exp(nats);
  return number < 10 ? number.toFixed(1) : Math.round(number).toLocaleString("en");
}
