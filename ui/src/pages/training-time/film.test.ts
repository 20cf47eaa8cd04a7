import { expect, test } from "vitest";
import { Problem } from "../../api/client";
import { Film } from "./film";
import type { Frame } from "./frame";

const STEPS = [0, 1, 2, 5, 20, 100];

/** A film whose frames come when the test says so. */
function projector() {
  const asked: number[] = [];
  const open = new Map<number, { give: () => void; fail: (problem: Problem) => void }>();
  const film = new Film((step, signal) => {
    asked.push(step);
    return new Promise<Frame>((resolve, reject) => {
      open.set(step, {
        give: () => {
          open.delete(step);
          resolve({ step } as Frame);
        },
        fail: (problem) => {
          open.delete(step);
          reject(problem);
        },
      });
      signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    });
  });
  const settle = () => new Promise((resolve) => setTimeout(resolve));
  return { film, asked, open, settle };
}

test("checkpoints are read from the slider outwards, two at once", async () => {
  const { film, asked, open, settle } = projector();
  film.attend(STEPS, 5);
  expect(asked).toEqual([5, 2]);
  while (open.size > 0) {
    expect(open.size).toBeLessThanOrEqual(2);
    [...open.values()][0]!.give();
    await settle();
  }
  expect(asked).toEqual([5, 2, 20, 1, 100, 0]);
  expect([...film.get().frames.keys()].sort((a, b) => a - b)).toEqual(STEPS);
});

test("where the slider goes meanwhile is read next, and nothing is read twice", async () => {
  const { film, asked, open, settle } = projector();
  film.attend(STEPS, 0);
  film.attend(STEPS, 100);
  open.get(0)!.give();
  await settle();
  expect(asked).toEqual([0, 1, 100]);
});

test("a checkpoint that is gone is passed over with its reason; the others are read", async () => {
  const { film, open, settle } = projector();
  film.attend([0, 1], 0);
  open.get(0)!.fail(new Problem(404, "unknown_step", "Gone."));
  open.get(1)!.give();
  await settle();
  expect(film.get().missing.get(0)?.message).toBe("Gone.");
  expect([...film.get().frames.keys()]).toEqual([1]);
  expect(film.get().problem).toBeNull();
});

test("any other failure ends the reading until it is asked for again", async () => {
  const { film, asked, open, settle } = projector();
  film.attend(STEPS, 0);
  open.get(1)!.fail(new Problem(413, "too_large", "Too large."));
  open.get(0)!.give();
  await settle();
  expect(film.get().problem?.message).toBe("Too large.");
  expect(asked).toEqual([0, 1]);
  film.close();
  film.attend(STEPS, 0);
  expect(film.get().problem).toBeNull();
  expect(asked).toEqual([0, 1, 1, 2]); // what was read is kept
});

test("new checkpoints of a run in training are read as they appear", async () => {
  const { film, asked, open, settle } = projector();
  film.attend([0, 1], 1);
  open.get(0)!.give();
  open.get(1)!.give();
  await settle();
  expect(asked).toEqual([1, 0]);
  film.attend([0, 1, 2], 2);
  expect(asked).toEqual([1, 0, 2]);
});
