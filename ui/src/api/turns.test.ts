import { expect, test } from "vitest";
import { inTurn } from "./turns";

const never = new AbortController().signal;

test("no more than four are asked at once, and all are answered", async () => {
  let [now, most] = [0, 0];
  const work = async () => {
    most = Math.max(most, (now += 1));
    await new Promise((resolve) => setTimeout(resolve, 1));
    now -= 1;
    return most;
  };
  const answers = await Promise.all(Array.from({ length: 20 }, () => inTurn(work, never)));
  expect(answers).toHaveLength(20);
  expect(most).toBe(4);
});

test("who gave up while waiting is not asked for, and who fails makes room", async () => {
  const end: (() => void)[] = [];
  const long = () => new Promise<void>((resolve) => end.push(resolve));
  const held = Array.from({ length: 4 }, () => inTurn(long, never));
  const controller = new AbortController();
  let asked = false;
  const late = inTurn(async () => void (asked = true), controller.signal);
  const failing = inTurn(() => Promise.reject(new Error("no")), never);
  const last = inTurn(async () => "last", never);
  controller.abort();
  end.forEach((each) => each());
  await Promise.all(held);
  await expect(late).rejects.toThrow(/abort/i);
  await expect(failing).rejects.toThrow("no");
  expect(await last).toBe("last");
  expect(asked).toBe(false);
});
