/** Which parts of a model are switched off, as the address holds them: `0.1,2.m` is head 1 of layer 0
 * and the MLP of layer 2.
 */
export interface Part {
  readonly layer: number;
  /** null: the layer's MLP. */
  readonly head: number | null;
}

export interface Shape {
  readonly layers: number;
  readonly heads: number;
  readonly mlps: boolean;
}

export function keyOf({ layer, head }: Part): string {
  return `${layer}.${head ?? "m"}`;
}

/** A part in words; people count from 0 here as the model's arrays do. */
export function nameOf({ layer, head }: Part): string {
  return head === null ? `MLP of layer ${layer}` : `head ${head} of layer ${layer}`;
}

/** The parts of a layer, in the order of the board. */
export function partsOf(layer: number, { heads, mlps }: Shape): Part[] {
  const parts: Part[] = Array.from({ length: heads }, (_, head) => ({ layer, head }));
  return mlps ? [...parts, { layer, head: null }] : parts;
}

/** The parts that a value of the address names, each once; what the model has not is left out. */
export function parseOff(text: string, shape: Shape): Part[] {
  const named = new Set(text.split(","));
  return Array.from({ length: shape.layers }, (_, layer) => partsOf(layer, shape))
    .flat()
    .filter((part) => named.has(keyOf(part)));
}

export function formatOff(parts: readonly Part[]): string {
  return parts.map(keyOf).join(",");
}

/** With these parts off if one of them is on, else with all of them on. */
export function toggled(off: readonly Part[], parts: readonly Part[]): Part[] {
  const keys = new Set(off.map(keyOf));
  const rest = off.filter((part) => !parts.some((each) => keyOf(each) === keyOf(part)));
  return parts.every((part) => keys.has(keyOf(part))) ? rest : [...rest, ...parts];
}
