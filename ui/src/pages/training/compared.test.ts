import { expect, it } from "vitest";
import type { Run } from "../../api/queries";
import { joinNames, linesOf, NONE, rowOf, sortRows, splitNames, usualNames } from "./compared";
import type { Story } from "../../api/story";

function run(name: string, changes: Partial<Run> = {}): Run {
  return {
    name,
    model: "gpt",
    parameters: 1000,
    n_layer: 1,
    n_head: 1,
    n_kv_head: 1,
    d_model: 8,
    context: 8,
    corpus: "tales",
    corpus_fingerprint: "c",
    tokenizer: "bpe",
    tokenizer_sha256: "t",
    vocab_size: 16,
    steps: [10],
    served_step: null,
    total_steps: 10,
    validation_loss: 2,
    training: false,
    tuned: false,
    created: "2026-01-01",
    ...changes,
  };
}

const STORY: Story = {
  next: 1,
  series: {
    "val/loss": { steps: [0, 10], values: [6, 1] },
    "perf/step_ms": { steps: [10], values: [500] },
    "perf/tokens_per_sec": { steps: [10], values: [64] },
  },
};

it("writes any names into the place and reads them again", () => {
  const names = ["ladder/gpt", "a,b", "100%"];
  expect(splitNames(joinNames(names))).toEqual(names);
  expect(joinNames([])).toBe(NONE);
  expect(splitNames(NONE)).toEqual([]);
});

it("compares the served run with the newest that are like it, and leaves room for one", () => {
  const alike = [1, 2, 3, 4, 5, 6].map((day) => run(`r${day}`, { created: `2026-01-0${day}` }));
  const other = run("other corpus", { corpus_fingerprint: "d", created: "2026-02-01" });
  const names = usualNames([run("served"), other, ...alike], "served");
  expect(names).toEqual(["served", "r6", "r5", "r4", "r3"]);
});

it("lays lines along steps, tokens or seconds, and leaves out runs without them", () => {
  const chosen = [run("silent"), run("told")];
  const stories = new Map([["told", STORY]]);
  const along = (what: "steps" | "tokens" | "seconds") =>
    linesOf(chosen, stories, "val/loss", what).map(({ steps, colour }) => [steps, colour]);
  expect(along("steps")).toEqual([[[0, 10], "--series-2"]]);
  expect(along("tokens")).toEqual([[[0, 320], "--series-2"]]);
  expect(along("seconds")).toEqual([[[0, 5], "--series-2"]]);
});

it("sorts by any column, with what is unknown last either way", () => {
  const rows = [
    rowOf(run("b", { validation_loss: 3 }), undefined),
    rowOf(run("a", { validation_loss: null }), undefined),
    rowOf(run("c"), STORY),
  ];
  const names = (...how: [Parameters<typeof sortRows>[1], boolean]) =>
    sortRows(rows, ...how).map((row) => row.run.name);
  expect(names("loss", false)).toEqual(["c", "b", "a"]);
  expect(names("loss", true)).toEqual(["b", "c", "a"]);
  expect(names("name", true)).toEqual(["c", "b", "a"]);
});
