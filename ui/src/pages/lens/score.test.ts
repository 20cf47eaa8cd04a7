import { expect, test } from "vitest";
import { scale } from "../../look/scale";
import { SvgPen } from "../../look/pen";
import {
  cellAt,
  cornerOf,
  drawScore,
  fitted,
  HEAD,
  inkOn,
  layoutOf,
  ROW,
  type Score,
} from "./score";

test("every cell is found where it lies, at any width", () => {
  for (const width of [300, 390, 827, 1400]) {
    const place = layoutOf(23, 4, width);
    expect(place.perLine * place.lines).toBeGreaterThanOrEqual(23);
    for (let position = 0; position < 23; position++) {
      for (let depth = 0; depth < 4; depth++) {
        const [x, y] = cornerOf(place, { position, depth });
        expect(x + place.cell).toBeLessThanOrEqual(width + 1e-6);
        expect(y + ROW).toBeLessThanOrEqual(place.height);
        expect(cellAt(place, 23, 4, x + 1, y + 1)).toEqual({ position, depth });
      }
    }
  }
});

test("the token over a column is told from its cells, and between lines is nothing", () => {
  const place = layoutOf(23, 4, 827);
  expect(cellAt(place, 23, 4, place.left + 1, HEAD - 1)).toEqual({ position: 0, depth: -1 });
  expect(cellAt(place, 23, 4, place.left + 1, HEAD + 4 * ROW + 1)).toBeNull();
  expect(cellAt(place, 23, 4, place.left - 1, HEAD + 1)).toBeNull();
  expect(cellAt(place, 23, 4, place.left + 1, place.height + 50)).toBeNull();
});

test("only the lines in sight are drawn, with markup of a token as text", () => {
  const positions = 40;
  const words = Array.from({ length: positions }, (_, index) => `<b>${index}`);
  const score: Score = {
    heads: words,
    words: [words],
    shares: new Float32Array(positions).fill(0.5),
    right: [words.map(() => false)],
    depthNames: ["input"],
    shortNames: ["in"],
  };
  const place = layoutOf(positions, 1, 600);
  const drawn = (from: number, to: number) => {
    const pen = new SvgPen(600, place.height, "white");
    const inks = { ink: "black", muted: "grey" };
    drawScore(pen, score, place, scale("sequential", "light"), inks, [from, to]);
    return pen.toString();
  };
  expect(drawn(0, place.height)).toContain(`&lt;b&gt;${positions - 1}`);
  expect(drawn(0, place.height)).not.toContain("<b>");
  const first = drawn(0, place.lineHeight);
  expect(first).toContain("&lt;b&gt;0<");
  expect(first).not.toContain(`&lt;b&gt;${positions - 1}`);
});

test("words are cut to their room, and read well on every colour of both scales", () => {
  expect(fitted("·brave", 6)).toBe("·brave");
  expect(fitted("·bravery", 6)).toBe("·brav…");
  for (const name of ["sequential", "diverging"] as const) {
    for (const theme of ["light", "dark"] as const) {
      const colours = scale(name, theme);
      for (let step = 0; step < 256; step++) {
        const ink = inkOn(colours, step / 255) === "#ffffff" ? 1 : 0;
        const light = luminance(colours, step);
        const ratio = (Math.max(ink, light) + 0.05) / (Math.min(ink, light) + 0.05);
        expect(ratio).toBeGreaterThan(4.5);
      }
    }
  }
});

function luminance(colours: Uint8ClampedArray, step: number): number {
  const linear = [...colours.slice(4 * step, 4 * step + 3)].map((value) =>
    value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
}
