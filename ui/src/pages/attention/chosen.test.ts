import { expect, it } from "vitest";
import { chosenFrom } from "./chosen";

const SIZE = { layers: 3, heads: 4, length: 10 };

it("a head, a pinned pair and the switch are read from the address", () => {
  const values = { layer: "2", head: "mean", pin: "7", "pin-key": "3", sink: "1" };
  expect(chosenFrom(values, SIZE)).toEqual({
    layer: 2,
    head: "mean",
    pin: 7,
    pinKey: 3,
    leaveOutFirst: true,
  });
});

it("what a link names and this text or model does not have is left out", () => {
  const plain = { layer: 0, head: 0, pin: null, pinKey: null, leaveOutFirst: false };
  expect(chosenFrom({ layer: "3", head: "4", pin: "10" }, SIZE)).toEqual(plain);
  expect(chosenFrom({ layer: "-1", head: "median", pin: "1.5" }, SIZE)).toEqual(plain);
  // A key after its query cannot be looked at, and one without a query means nothing.
  expect(chosenFrom({ pin: "2", "pin-key": "3" }, SIZE).pinKey).toBeNull();
  expect(chosenFrom({ "pin-key": "3" }, SIZE)).toEqual(plain);
});
