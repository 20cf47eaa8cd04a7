import { expect, it } from "vitest";
import { spread } from "./lineEnds";

it("leaves names where their lines end as long as they do not touch", () => {
  expect(spread([50, 10, 90], 16, 200)).toEqual([50, 10, 90]);
});

it("moves names apart, in the order of their lines and above the lowest place", () => {
  expect(spread([100, 100, 98], 16, 200)).toEqual([114, 130, 98]);
  expect(spread([190, 195], 16, 200)).toEqual([184, 200]);
});
