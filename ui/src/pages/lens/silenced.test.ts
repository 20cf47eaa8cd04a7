import { expect, test } from "vitest";
import { harmOf } from "./harm";
import { formatOff, parseOff, type Part, toggled } from "./silenced";

const SHAPE = { layers: 2, heads: 2, mlps: true };
const head = (layer: number, head: number): Part => ({ layer, head });

test("what is off is read from the address as it was written there; what the model has not is left out", () => {
  const off = [head(0, 1), { layer: 1, head: null }];
  expect(formatOff(off)).toBe("0.1,1.m");
  expect(parseOff("1.m,0.1,0.1", SHAPE)).toEqual(off);
  expect(parseOff("7.0,0.5,x,,1.m", { ...SHAPE, mlps: false })).toEqual([]);
});

test("a press switches off and on again; a layer goes off as long as a part of it is on", () => {
  const layer = [head(0, 0), head(0, 1)];
  const one = toggled([], [head(0, 0)]);
  expect(one).toEqual([head(0, 0)]);
  expect(toggled(one, [head(0, 0)])).toEqual([]);
  const all = toggled(one, layer);
  expect(all).toHaveLength(2);
  expect(toggled(all, layer)).toEqual([]);
});

test("the harm of a part is the mean of bits that are needed more without it", () => {
  const nats = (...bits: number[]) => Float32Array.from(bits, (each) => each * Math.LN2);
  const harm = harmOf({
    beside: {},
    fields: {
      nats: { shape: [2], data: nats(1, 2) },
      without_head_nats: { shape: [1, 2, 2], data: nats(1, 2, 3, 4) },
      without_mlp_nats: { shape: [1, 2], data: nats(0, 2) },
    },
  });
  expect([...harm.keys()]).toEqual(["0.0", "0.1", "0.m"]);
  expect(harm.get("0.0")).toBeCloseTo(0);
  expect(harm.get("0.1")).toBeCloseTo(2);
  expect(harm.get("0.m")).toBeCloseTo(-0.5);
});
