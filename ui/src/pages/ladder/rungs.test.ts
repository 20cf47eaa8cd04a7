import { expect, test } from "vitest";
import type { Run } from "../../api/queries";
import { choices, ladders, MODELS } from "./rungs";

function run(name: string, model: string, changes: Partial<Run> = {}): Run {
  return {
    name,
    model,
    parameters: 1,
    n_layer: 0,
    n_head: 0,
    n_kv_head: 0,
    d_model: 8,
    context: 16,
    corpus: "bundled:tales",
    corpus_fingerprint: "c",
    tokenizer: "bpe",
    tokenizer_sha256: "t",
    vocab_size: 600,
    steps: [1],
    served_step: null,
    total_steps: 1,
    validation_loss: 3,
    training: false,
    created: null,
    tuned: false,
    ...changes,
  };
}

const WHOLE = MODELS.map((model) => run(`ladder/${model}`, model));

function names(found: ReturnType<typeof ladders>): string[][] {
  return found.map(({ rungs }) => MODELS.map((model) => rungs[model]?.name ?? "–"));
}

test("a folder that has all four is a ladder, whatever else the shelf has", () => {
  const shelf = [run("story", "gpt"), run("experts", "moe"), ...WHOLE];
  expect(names(ladders(shelf))).toEqual([WHOLE.map(({ name }) => name)]);
});

test("a folder with less comes after a whole one", () => {
  const part = [run("first/embedding", "embedding"), run("first/gpt", "gpt")];
  expect(ladders([...part, ...WHOLE]).map(({ name }) => name)).toEqual(["ladder", "first"]);
});

test("runs of several folders make a ladder where no folder has one, the best of each model", () => {
  const shelf = [
    run("a", "embedding"),
    run("runs/b", "single_head", { validation_loss: 3.5 }),
    run("c", "single_head", { validation_loss: 3.4 }),
    run("d", "multi_head", { tokenizer_sha256: "another" }),
    run("e", "gpt"),
  ];
  expect(names(ladders(shelf))[0]).toEqual(["a", "c", "–", "e"]);
});

test("runs of two tokenizers are no ladder, nor is one rung, nor runs without a checkpoint", () => {
  const other = { tokenizer_sha256: "another" };
  expect(ladders([run("a", "embedding"), run("b", "gpt", other)])).toEqual([]);
  expect(ladders([run("a", "gpt"), run("b", "gpt")])).toEqual([]);
  expect(ladders(WHOLE.map((each) => ({ ...each, steps: [] })))).toEqual([]);
});

test("a loss is told as a number of equally likely tokens", () => {
  expect(choices(Math.log(600))).toBe("600");
  expect(choices(0.5)).toBe("1.6");
  expect(choices(Math.log(12_345.4))).toBe("12,345");
});
