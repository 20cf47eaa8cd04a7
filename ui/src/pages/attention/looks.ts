/** Where heads look: their weights, one head at a time or over a layer's heads, and what sums them up.
 *
 * Weights of a text of `length` tokens lie row by row, `weights[query * length + key]`. A row sums to
 * one, but for "max". Nothing here draws.
 */
import { type Arrays, at, field } from "../../api/arrays";

/** One head of a layer, or all of them together. */
export type Head = number | "mean" | "max";

/** A head in three numbers, each the mean over the tokens that look. */
export interface Summary {
  /** Entropy of a row: 0 bits is one token, 3 bits is like 8 tokens alike. */
  readonly entropyBits: number;
  /** How far back, by weight. */
  readonly distanceTokens: number;
  /** The weight of the first token, whether it is left out or not. */
  readonly first: number;
}

/** Rows whose weight lies on the first token but for this much have nothing left without it. */
const LEAST_LEFT = 1e-6;
const BINS = 100;
const FEW = 0.004;

/** The first token left out: rows are scaled to sum to one again, or are empty. */
export function withoutFirst(weights: Float32Array, length: number): Float32Array {
  const rest = new Float32Array(weights.length);
  for (let query = 1; query < length; query++) {
    const row = query * length;
    let left = 0;
    for (let key = 1; key <= query; key++) left += weights[row + key]!;
    if (left < LEAST_LEFT) continue;
    for (let key = 1; key <= query; key++) rest[row + key] = weights[row + key]! / left;
  }
  return rest;
}

export function over(how: "mean" | "max", all: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(all[0]!.length);
  for (const each of all) {
    for (let cell = 0; cell < whole.length; cell++) {
      if (how === "mean") whole[cell]! += each[cell]! / all.length;
      else if (each[cell]! > whole[cell]!) whole[cell] = each[cell]!;
    }
  }
  return whole;
}

/** Entropy and distance, over the rows that have any weight. */
export function entropyAndDistance(weights: Float32Array, length: number) {
  let [nats, back, rows] = [0, 0, 0];
  for (let query = 0; query < length; query++) {
    let any = false;
    for (let key = 0; key <= query; key++) {
      const weight = weights[query * length + key]!;
      if (!(weight > 0)) continue;
      any = true;
      nats -= weight * Math.log(weight);
      back += weight * (query - key);
    }
    if (any) rows++;
  }
  return { entropyBits: nats / Math.LN2 / (rows || 1), distanceTokens: back / (rows || 1) };
}

/** The weight that all but few cells stay below; the first rows, which have no choice, do not count. */
export function usualTop(weights: Float32Array, length: number): number {
  const counts = new Uint32Array(BINS + 1);
  let cells = 0;
  for (let query = Math.min(2, length - 1); query < length; query++) {
    for (let key = 0; key <= query; key++) {
      const share = Math.min(weights[query * length + key]!, 1);
      counts[Math.ceil(share * BINS)]!++;
      cells++;
    }
  }
  let above = 0;
  for (let bin = BINS; bin > 1; bin--) {
    above += counts[bin]!;
    if (above > FEW * cells) return bin / BINS;
  }
  return 1 / BINS;
}

/** The mean weight of the first token, of those that have another choice. */
function firstShare(weights: Float32Array, length: number): number {
  let sum = 0;
  for (let query = 1; query < length; query++) sum += weights[query * length]!;
  return length > 1 ? sum / (length - 1) : 1;
}

export class Looks {
  readonly length: number;
  readonly heads: number;
  /** The layers that the answer tells of. */
  readonly layers: readonly number[];
  /** What is drawn darkest: one for all heads, so that their pictures can be compared. */
  readonly top: number;
  private readonly found = new Map<string, Float32Array>();
  private readonly summaries = new Map<string, Summary>();

  constructor(
    private readonly answer: Arrays,
    private readonly leaveOutFirst: boolean,
  ) {
    const { shape } = field(answer, "probabilities");
    this.heads = shape[1]!;
    this.length = shape[2]!;
    this.layers = answer.beside.layers as number[];
    const tops = this.layers.flatMap((layer) =>
      Array.from({ length: this.heads }, (_, head) =>
        usualTop(this.weights(layer, head), this.length),
      ),
    );
    this.top = Math.max(...tops);
  }

  weights(layer: number, head: Head): Float32Array {
    return kept(this.found, `${layer} ${head}`, () => {
      if (head === "mean" || head === "max") {
        const all = Array.from({ length: this.heads }, (_, each) => this.weights(layer, each));
        return over(head, all);
      }
      const raw = this.raw(layer, head);
      return this.leaveOutFirst ? withoutFirst(raw, this.length) : raw;
    });
  }

  /** What was answered of a query, key by key. */
  row(layer: number, head: Head, query: number): Float32Array {
    const start = query * this.length;
    return this.weights(layer, head).subarray(start, start + query + 1);
  }

  /** How much each token looks at `key`; those before it cannot. */
  column(layer: number, head: Head, key: number): Float32Array {
    const weights = this.weights(layer, head);
    return Float32Array.from({ length: this.length }, (_, query) =>
      query < key ? 0 : weights[query * this.length + key]!,
    );
  }

  /** Of one head: what is the largest of several is no distribution. */
  summary(layer: number, head: number): Summary {
    return kept(this.summaries, `${layer} ${head}`, () => ({
      ...entropyAndDistance(this.weights(layer, head), this.length),
      first: firstShare(this.raw(layer, head), this.length),
    }));
  }

  private raw(layer: number, head: number): Float32Array {
    const row = this.layers.indexOf(layer);
    return at(field(this.answer, "probabilities"), row, head).data as Float32Array;
  }
}

function kept<T>(among: Map<string, T>, key: string, make: () => T): T {
  let value = among.get(key);
  if (value === undefined) among.set(key, (value = make()));
  return value;
}

/** The largest of each block of cells, so that a line of single cells stays in a small picture. */
export function pooled(weights: Float32Array, length: number, most: number) {
  const size = Math.min(length, most);
  const values = new Float32Array(size * size);
  for (let query = 0; query < length; query++) {
    const row = Math.floor((query * size) / length) * size;
    for (let key = 0; key <= query; key++) {
      const cell = row + Math.floor((key * size) / length);
      const weight = weights[query * length + key]!;
      if (weight > values[cell]!) values[cell] = weight;
    }
  }
  return { values, rows: size, columns: size };
}

/** How dark a weight is drawn, `top` being darkest: the square root, so that faint looks are seen. */
export function shadeOf(weight: number, top: number): number {
  return Math.min(Math.sqrt(Math.max(weight, 0) / top), 1);
}

/** The keys of a row with the largest weights, those of no weight left out. */
export function strongest(row: ArrayLike<number>, count: number): number[] {
  return Array.from(row, (_, key) => key)
    .filter((key) => row[key]! > 0)
    .sort((a, b) => row[b]! - row[a]! || b - a)
    .slice(0, count);
}

export function headName(head: Head): string {
  if (head === "mean") return "mean over heads";
  return head === "max" ? "largest over heads" : `head ${head}`;
}
