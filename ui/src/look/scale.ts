/** Numbers as colours. Both scales are ordered by lightness, so that no hue has to be told apart.
 *
 * `sequential` goes from the paper to the accent, `diverging` from orange over the paper to blue: a
 * pair that people with any common colour blindness tell apart.
 */
export type Rgb = readonly [number, number, number];
export type Theme = "light" | "dark";

const STEPS = 256;

const SEQUENTIAL: Record<Theme, readonly Rgb[]> = {
  light: [
    [246, 244, 240],
    [190, 207, 243],
    [118, 154, 226],
    [36, 86, 201],
    [14, 32, 92],
  ],
  dark: [
    [30, 32, 38],
    [37, 54, 102],
    [62, 98, 190],
    [143, 176, 255],
    [236, 242, 255],
  ],
};

const DIVERGING: Record<Theme, readonly Rgb[]> = {
  light: [
    [138, 56, 4],
    [222, 132, 62],
    [246, 244, 240],
    [118, 154, 226],
    [24, 58, 150],
  ],
  dark: [
    [255, 178, 120],
    [176, 92, 34],
    [34, 36, 42],
    [62, 98, 190],
    [160, 188, 255],
  ],
};

/** A scale as 256 colours, four bytes each. */
export type Table = Uint8ClampedArray;

const tables = new Map<string, Table>();

function table(stops: readonly Rgb[]): Table {
  const colours = new Uint8ClampedArray(4 * STEPS);
  for (let step = 0; step < STEPS; step++) {
    const place = (step / (STEPS - 1)) * (stops.length - 1);
    const left = Math.min(Math.floor(place), stops.length - 2);
    const share = place - left;
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [stops[left]![channel]!, stops[left + 1]![channel]!];
      colours[4 * step + channel] = from + share * (to - from);
    }
    colours[4 * step + 3] = 255;
  }
  return colours;
}

export type ScaleName = "sequential" | "diverging";

export function scale(name: ScaleName, theme: Theme): Table {
  const key = `${name} ${theme}`;
  let found = tables.get(key);
  if (!found) {
    found = table((name === "sequential" ? SEQUENTIAL : DIVERGING)[theme]);
    tables.set(key, found);
  }
  return found;
}

/** The index in a table of a share in [0, 1]; what is no number has the first colour. */
export function step(share: number): number {
  return share > 0 ? Math.min(Math.round(share * (STEPS - 1)), STEPS - 1) : 0;
}

export function colour(colours: Table, share: number): string {
  const start = 4 * step(share);
  return `rgb(${colours[start]} ${colours[start + 1]} ${colours[start + 2]})`;
}
