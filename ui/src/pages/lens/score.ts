/** The lens as a score: the text in lines from left to right, and under each token what every depth
 * would say next. Where things lie, and how they are drawn; nothing here listens.
 */
import type { Pen } from "../../look/pen";
import { colour, step, type Table } from "../../look/scale";

export interface Score {
  /** What is written over each column. */
  readonly heads: readonly string[];
  /** What is written in each cell, by depth and position. */
  readonly words: readonly (readonly string[])[];
  /** Each cell's shade in [0, 1], by depth and position. */
  readonly shares: Float32Array;
  /** Whether the cell says what really follows. */
  readonly right: readonly (readonly boolean[])[];
  /** A name for each depth, and one for where there is little room. */
  readonly depthNames: readonly string[];
  readonly shortNames: readonly string[];
}

export interface Layout {
  readonly perLine: number;
  readonly lines: number;
  readonly left: number;
  readonly roomy: boolean;
  readonly cell: number;
  readonly lineHeight: number;
  readonly height: number;
}

export interface Cell {
  readonly position: number;
  readonly depth: number;
}

/** Colours of the theme that are not the scale's. */
export interface Inks {
  readonly ink: string;
  readonly muted: string;
}

export const HEAD = 28;
export const ROW = 27;
const GAP = 22;
const NARROWEST = 62;
/** With so much room a depth is named in full. */
const ROOMY = 520;
const SIZE = 12;
/** Advance of the monospaced face at size 1. */
const ADVANCE = 0.6;

export function layoutOf(positions: number, depths: number, width: number): Layout {
  const left = width < ROOMY ? 26 : 62;
  const across = Math.max(width - left, NARROWEST);
  const most = Math.max(Math.floor(across / NARROWEST), 1);
  // Lines of about one length, rather than a last one with a word or two.
  const lines = Math.max(Math.ceil(positions / most), 1);
  const perLine = Math.max(Math.ceil(positions / lines), Math.min(most, 8), 1);
  const lineHeight = HEAD + depths * ROW + GAP;
  return {
    perLine,
    lines: Math.max(Math.ceil(positions / perLine), 1),
    left,
    roomy: width >= ROOMY,
    cell: across / perLine,
    lineHeight,
    height: Math.max(Math.ceil(positions / perLine), 1) * lineHeight - GAP,
  };
}

/** The upper left corner of a cell; depth -1 is the token over it. */
export function cornerOf(place: Layout, { position, depth }: Cell): [number, number] {
  const line = Math.floor(position / place.perLine);
  const x = place.left + (position % place.perLine) * place.cell;
  const y = line * place.lineHeight + (depth < 0 ? 0 : HEAD + depth * ROW);
  return [x, y];
}

/** The cell at a point; the token over a column counts as depth -1. */
export function cellAt(
  place: Layout,
  positions: number,
  depths: number,
  x: number,
  y: number,
): Cell | null {
  const line = Math.floor(y / place.lineHeight);
  const column = Math.floor((x - place.left) / place.cell);
  const within = y - line * place.lineHeight;
  const depth = within < HEAD ? -1 : Math.floor((within - HEAD) / ROW);
  const position = line * place.perLine + column;
  const inside = column >= 0 && column < place.perLine && depth < depths && line >= 0;
  return inside && position < positions ? { position, depth } : null;
}

/** Black or white, whichever is read better on a colour of the scale (by its relative luminance). */
export function inkOn(colours: Table, share: number): string {
  const start = 4 * step(share);
  const [r, g, b] = [0, 1, 2].map((channel) => {
    const value = colours[start + channel]! / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

/** Draws the lines of which something lies between `from` and `to`, moved up by `from`. */
export function drawScore(
  pen: Pen,
  score: Score,
  place: Layout,
  colours: Table,
  inks: Inks,
  [from, to]: readonly [number, number],
): void {
  const first = Math.max(Math.floor(from / place.lineHeight), 0);
  const last = Math.min(Math.ceil(to / place.lineHeight), place.lines);
  const room = Math.floor((place.cell - 10) / (SIZE * ADVANCE));
  const positions = score.heads.length;
  for (let line = first; line < last; line++) {
    const top = line * place.lineHeight - from;
    (place.roomy ? score.depthNames : score.shortNames).forEach((name, depth) => {
      const y = top + HEAD + (depth + 0.5) * ROW;
      const style = { colour: inks.muted, size: SIZE, align: "end" } as const;
      pen.text(place.left - 8, y, name, style);
    });
    const end = Math.min((line + 1) * place.perLine, positions);
    for (let position = line * place.perLine; position < end; position++) {
      const [x] = cornerOf(place, { position, depth: 0 });
      const head = { colour: inks.ink, size: 13, mono: true, bold: true };
      pen.text(x + 5, top + HEAD / 2, fitted(score.heads[position]!, room - 1), head);
      score.words.forEach((row, depth) => {
        const share = score.shares[depth * positions + position]!;
        const y = top + HEAD + depth * ROW;
        pen.rect(x + 1, y + 1, place.cell - 2, ROW - 2, colour(colours, share));
        const ink = inkOn(colours, share);
        const style = { colour: ink, size: SIZE, mono: true };
        pen.text(x + 6, y + ROW / 2, fitted(row[position]!, room), style);
        if (score.right[depth]![position]) pen.rect(x + 6, y + ROW - 5, place.cell - 12, 1.5, ink);
      });
    }
  }
}

/** A word in as many letters as there is room for. */
export function fitted(word: string, room: number): string {
  const letters = [...word];
  return letters.length > room ? `${letters.slice(0, Math.max(room - 1, 1)).join("")}…` : word;
}
