/** Names of lines at their ends: close to them, and none over another. */
import type { Pen } from "../look/pen";
import { cssColour } from "../look/theme";

const SIZE = 12;
const GAP = 16;
// Of the sans face at that size, on average.
const CHARACTER_PX = 0.56 * SIZE;
const LEAST_PX = 560;

/** The room that names need to the right of the last step; 8 where there is none for them. */
export function roomFor(width: number): number {
  return width > LEAST_PX ? Math.min(170, width / 4) : 8;
}

/** Heights near those wanted, at least `gap` apart, where they fit above `most`. */
export function spread(wanted: readonly number[], gap: number, most: number): number[] {
  const order = wanted.map((_, index) => index).sort((a, b) => wanted[a]! - wanted[b]!);
  const places = [...wanted];
  order.forEach((index, rank) => {
    if (rank > 0) places[index] = Math.max(places[index]!, places[order[rank - 1]!]! + gap);
  });
  let limit = most;
  for (const index of order.reverse()) {
    places[index] = Math.min(places[index]!, limit);
    limit = places[index]! - gap;
  }
  return places;
}

export interface LineEnd {
  readonly name: string;
  readonly colour: string;
  readonly x: number;
  readonly y: number;
}

/** Writes the names between `left` and `right`, each led to from where its line ends. */
export function drawNames(
  pen: Pen,
  ends: readonly LineEnd[],
  left: number,
  right: number,
  low: number,
): void {
  const heights = spread(
    ends.map(({ y }) => y),
    GAP,
    low,
  );
  ends.forEach(({ name, colour, x, y }, index) => {
    const height = heights[index]!;
    pen.line([x, y, left + 4, height, left + 10, height], cssColour(colour), 1, [1, 2]);
    const text = clipped(name, right - left - 14);
    pen.text(left + 14, height, text, { colour: cssColour("--ink"), size: SIZE });
  });
}

function clipped(name: string, width: number): string {
  const most = Math.floor(width / CHARACTER_PX);
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}
