/** A text in one line, with arcs above it from the token that looks to those that it looks at.
 *
 * Widths are in CSS pixels; how wide a text is has to be told, so that nothing here needs a screen.
 */
import type { Pen } from "../../look/pen";
import { shadeOf } from "./looks";

export const TEXT_SIZE = 13;
export const LINE_HEIGHT = 176;
const TEXT_Y = LINE_HEIGHT - 18;
const FEET_Y = TEXT_Y - 15;
const HIGHEST = FEET_Y - 8;
const MARGIN = 12;
const GAP = 3;
const THICKEST = 9;
/** Tokens that get this much of the darkest weight are written in ink. */
const SEEN = 0.25;
/** Arcs of a smaller part of the darkest weight are left out: hundreds of them would be a fog. */
const LEAST = 0.02;
const MOST_ARCS = 64;

/** Where each token begins, and at the end where the line ends. */
export function placesOf(texts: readonly string[], measure: (text: string) => number): number[] {
  const places = [MARGIN];
  for (const text of texts) places.push(places.at(-1)! + Math.max(measure(text), 4) + GAP);
  return places;
}

/** The token at x; null beside the line. */
export function tokenAt(places: readonly number[], x: number): number | null {
  let [low, high] = [0, places.length - 1];
  if (x < places[low]! || x >= places[high]!) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (places[middle]! <= x) low = middle;
    else high = middle;
  }
  return low;
}

export interface LineColours {
  readonly ink: string;
  readonly muted: string;
  readonly soft: string;
  readonly accent: string;
  readonly of: (share: number) => string;
}

interface Drawn {
  readonly texts: readonly string[];
  readonly places: readonly number[];
  readonly query: number;
  readonly key: number | null;
  readonly weights: ArrayLike<number>;
  /** The weight that is drawn darkest. */
  readonly top: number;
}

/** Draws what of the line lies between `from` and `from + width`, moved to begin at 0. */
export function drawLine(pen: Pen, drawn: Drawn, from: number, width: number, c: LineColours) {
  const { texts, places, query, key, weights, top } = drawn;
  const middle = (token: number) => (places[token]! + places[token + 1]! - GAP) / 2 - from;
  const box = (token: number, colour: string) => {
    const x = places[token]! - from - 1;
    pen.rect(x, TEXT_Y - 11, places[token + 1]! - places[token]! - GAP + 2, 22, colour);
  };
  const keys = Array.from({ length: Math.min(weights.length, query + 1) }, (_, at) => at);
  // The strongest are drawn last, over the others.
  for (const at of keys.sort((a, b) => weights[a]! - weights[b]!).slice(-MOST_ARCS)) {
    const weight = weights[at]!;
    if (at !== key && weight < LEAST * top) continue;
    const colour = at === key ? c.accent : c.of(0.2 + 0.8 * shadeOf(weight, top));
    const thick = Math.max(THICKEST * Math.min(weight / top, 1), 1);
    if (at === query) {
      pen.dot(middle(at), FEET_Y - 2, 1 + thick / 2, colour);
      continue;
    }
    const [x0, x1] = [middle(at), middle(query)];
    if (x1 < 0 || x0 > width) continue;
    pen.arc(x0, x1, FEET_Y, Math.min(16 + 0.4 * (x1 - x0), HIGHEST), colour, thick);
  }
  box(query, c.soft);
  texts.forEach((text, token) => {
    if (places[token + 1]! < from || places[token]! > from + width) return;
    const seen = token === query || token === key || weights[token]! >= SEEN * top;
    const style = { colour: seen ? c.ink : c.muted, size: TEXT_SIZE, mono: true };
    pen.text(places[token]! - from, TEXT_Y, text, { ...style, bold: token === query });
  });
}
