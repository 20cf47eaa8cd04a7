import { expect, test } from "vitest";
import { scale, step, type Table } from "./scale";

/** CIE lightness of a colour of a table. */
function lightness(table: Table, index: number): number {
  const linear = [0, 1, 2].map((channel) => {
    const share = table[4 * index + channel]! / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  return 116 * Math.cbrt(Math.max(luminance, 0.008856)) - 16;
}

const differences = (table: Table, from: number, to: number) =>
  Array.from(
    { length: to - from },
    (_, i) => lightness(table, from + i + 1) - lightness(table, from + i),
  );

test("more is darker on light paper and lighter on dark paper, without a turn", () => {
  expect(Math.max(...differences(scale("sequential", "light"), 0, 255))).toBeLessThanOrEqual(0.2);
  expect(Math.min(...differences(scale("sequential", "dark"), 0, 255))).toBeGreaterThanOrEqual(
    -0.2,
  );
});

test("both arms of a diverging scale leave the middle in lightness", () => {
  const light = scale("diverging", "light");
  expect(Math.min(...differences(light, 0, 127))).toBeGreaterThanOrEqual(-0.2);
  expect(Math.max(...differences(light, 128, 255))).toBeLessThanOrEqual(0.2);
  const dark = scale("diverging", "dark");
  expect(Math.max(...differences(dark, 0, 127))).toBeLessThanOrEqual(0.2);
  expect(Math.min(...differences(dark, 128, 255))).toBeGreaterThanOrEqual(-0.2);
});

test("shares beyond the range have the colours of its ends, and no number that of the first", () => {
  expect([step(-1), step(0), step(0.5), step(1), step(9), step(NaN)]).toEqual([
    0, 0, 128, 255, 255, 0,
  ]);
});
