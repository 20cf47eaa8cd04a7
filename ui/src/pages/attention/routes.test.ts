import { expect, it } from "vitest";
import type { Arrays } from "../../api/arrays";
import { answering, busiest, routesOf } from "./routes";

const GATES = Float32Array.from([0.7, 0, 0.3, 0, 1, 0, 0, 0.4, 0.6, 0, 0, 1]);
const SHARES = Float32Array.from([0.35, 0.5, 0.15, 0, 0.2, 0.8]);
const ANSWER: Arrays = {
  fields: {
    gates: { shape: [2, 2, 3], data: GATES },
    expert_share: { shape: [2, 3], data: SHARES },
  },
  beside: {},
};

it("gates and shares are told apart by layer", () => {
  const routes = routesOf(ANSWER)!;
  expect([routes.layers, routes.length, routes.experts]).toEqual([2, 2, 3]);
  expect(routes.gates[1]![2]).toBeCloseTo(0.6, 6);
  expect(busiest(routes.shares[0]!)).toBe(1);
  expect(busiest(routes.shares[1]!)).toBe(2);
});

it("the experts that answer a token come by weight, without those that are not asked", () => {
  const routes = routesOf(ANSWER)!;
  expect(answering(routes.gates[0]!, 3, 0)).toEqual([0, 2]);
  expect(answering(routes.gates[1]!, 3, 0)).toEqual([2, 1]);
  expect(answering(routes.gates[1]!, 3, 1)).toEqual([2]);
});

it("a model without experts has none", () => {
  expect(routesOf({ fields: {}, beside: {} })).toBeNull();
});
