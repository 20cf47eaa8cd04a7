import { expect, it } from "vitest";
import { SvgPen } from "../../look/pen";
import { drawLine, LINE_HEIGHT, placesOf, tokenAt } from "./line";

const TEXTS = ["One", " day", "", " later"];
const PLACES = placesOf(TEXTS, (text) => 8 * text.length);
const COLOURS = {
  ink: "ink",
  muted: "muted",
  soft: "soft",
  accent: "accent",
  of: (share: number) => `shade-${share.toFixed(2)}`,
};

function drawn(query: number, key: number | null, weights: number[], from = 0, width = 400) {
  const pen = new SvgPen(width, LINE_HEIGHT, "paper");
  drawLine(
    pen,
    { texts: TEXTS, places: PLACES, query, key, weights, top: 1 },
    from,
    width,
    COLOURS,
  );
  return pen.toString();
}

it("the token at a place of the line is found, also one without width of its own", () => {
  TEXTS.forEach((_, token) => {
    const middle = (PLACES[token]! + PLACES[token + 1]!) / 2;
    expect(tokenAt(PLACES, middle)).toBe(token);
  });
  expect(tokenAt(PLACES, PLACES[0]! - 1)).toBeNull();
  expect(tokenAt(PLACES, PLACES.at(-1)!)).toBeNull();
});

it("arcs lead to what is looked at, as thick as it is weighty, and none to what hardly counts", () => {
  const svg = drawn(3, null, [0.6, 0.39, 0.001, 0.009]);
  const arcs = [...svg.matchAll(/<path d="M([\d.]+)[^>]*stroke-width="([\d.]+)"/g)];
  expect(arcs).toHaveLength(2);
  // The strongest is drawn last, over the other, and begins further left.
  const [weak, strong] = arcs.map((arc) => ({ x: Number(arc[1]), width: Number(arc[2]) }));
  expect(strong!.width).toBeGreaterThan(weak!.width);
  expect(strong!.x).toBeLessThan(weak!.x);
});

it("the pair that is pointed at has its arc in the accent, however weak", () => {
  const weights = [0.6, 0.001, 0, 0.399];
  expect(drawn(3, null, weights)).not.toContain('stroke="accent"');
  expect(drawn(3, 1, weights)).toContain('stroke="accent"');
});

it("only what is seen of a long line is drawn", () => {
  expect(drawn(0, null, [1])).toContain(">One<");
  expect(drawn(0, null, [1], PLACES[1]! + 1)).not.toContain(">One<");
});
