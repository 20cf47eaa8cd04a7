import { expect, it } from "vitest";
import type { Run } from "../../api/queries";
import { findRun, phaseOf, type Status, underWay } from "./following";
import { peakRate, requestOf, roundly } from "./starting";
import { idOf, shortName, spell, spellCount } from "./words";

const ID = "55135cea-c17c-4274-b7df-cddacbe1e79a";
const run = (name: string, training = false, steps: number[] = []) =>
  ({ name, training, steps }) as unknown as Run;
const status = (changes: Partial<Status>) =>
  ({ status: "running", steps_completed: 0, ...changes }) as Status;

it("finds a run by its id or its name, and no run by a part of it", () => {
  const runs = [run("story"), run(`story/runs/${ID}`)];
  expect(findRun(runs, ID)).toBe(runs[1]);
  expect(findRun(runs, "story")).toBe(runs[0]);
  expect(findRun(runs, "tory")).toBeUndefined();
});

it("follows what this server trains before what others train", () => {
  const own = run(`story/runs/${ID}`, true);
  expect(underWay([run("a"), run("b", true), own])).toBe(own);
  expect(underWay([run("a"), run("b", true)])?.name).toBe("b");
  expect(underWay([run("a")])).toBeUndefined();
});

it("tells each state apart", () => {
  const told = (...how: Parameters<typeof phaseOf>) => phaseOf(...how);
  expect(told(undefined, status({}), false, false)).toBe("starting");
  expect(told(run("a", true, [0]), status({}), false, false)).toBe("training");
  expect(told(run("a", true), status({ steps_completed: 3 }), false, false)).toBe("training");
  expect(told(run("a", true, [0]), status({}), false, true)).toBe("stopping");
  expect(told(run("a"), status({ status: "interrupted" }), false, true)).toBe("interrupted");
  expect(told(run("a", true), undefined, true, false)).toBe("elsewhere");
  expect(told(run("a"), undefined, true, false)).toBe("resting");
  expect(told(undefined, undefined, true, false)).toBe("unknown");
  expect(told(undefined, undefined, false, false)).toBe("starting");
});

it("measures and saves at round numbers of steps", () => {
  expect([0.3, 1, 4, 7, 20, 49, 99].map(roundly)).toEqual([1, 1, 2, 5, 20, 20, 50]);
  const request = requestOf({ recipe: "gpt", steps: 400, rate: 0.01, from: null });
  expect(request).toMatchObject({ train_steps: 400, eval_interval: 20, checkpoint_interval: 50 });
});

it("takes the peak of the served run's schedule for its rate", () => {
  const values = [0.001, null, 0.0029999, 0.0003];
  const story = { next: 1, series: { "train/lr": { steps: [1, 2, 3, 4], values } } };
  expect(peakRate(story)).toBe(0.003);
  expect(peakRate(undefined)).toBeNull();
});

it("spells numbers and names as people say them", () => {
  expect([3.4, 60, 80, 3540, 3600, 5400].map(spell)).toEqual([
    "3 s",
    "1 min",
    "1 min 20 s",
    "59 min",
    "1 h",
    "1 h 30 min",
  ]);
  expect([950, 14_123, 372_232, 1_200_000].map(spellCount)).toEqual([
    "950",
    "14.1 k",
    "372 k",
    "1.2 M",
  ]);
  expect(idOf(`story/runs/${ID}`)).toBe(ID);
  expect(idOf("ladder/gpt")).toBeNull();
  expect(shortName(`story/runs/${ID}`)).toBe("story/55135cea");
  expect(shortName("ladder/gpt")).toBe("ladder/gpt");
});
