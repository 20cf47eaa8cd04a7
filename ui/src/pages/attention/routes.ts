/** Which experts answer: for each layer the gates of every token, and the shares of the text. */
import { type Arrays, at, type Field } from "../../api/arrays";

export interface Routes {
  readonly layers: number;
  readonly experts: number;
  readonly length: number;
  /** Weights of the experts that answer token by token, the others 0: `gates[token * experts + e]`. */
  readonly gates: readonly ArrayLike<number>[];
  /** The part of the whole text that each expert answers. */
  readonly shares: readonly ArrayLike<number>[];
}

/** Null for a model without experts. */
export function routesOf({ fields }: Arrays): Routes | null {
  const { gates, expert_share: shares } = fields;
  if (!gates || !shares) return null;
  const [layers, length, experts] = gates.shape as [number, number, number];
  const byLayer = (whole: Field) =>
    Array.from({ length: layers }, (_, layer) => at(whole, layer).data);
  return { layers, experts, length, gates: byLayer(gates), shares: byLayer(shares) };
}

/** The experts that answer a token, the weightiest first. */
export function answering(gates: ArrayLike<number>, experts: number, token: number): number[] {
  const weight = (expert: number) => gates[token * experts + expert]!;
  return Array.from({ length: experts }, (_, expert) => expert)
    .filter((expert) => weight(expert) > 0)
    .sort((a, b) => weight(b) - weight(a));
}

export function busiest(shares: ArrayLike<number>): number {
  return Array.from(shares).reduce((best, share, at) => (share > shares[best]! ? at : best), 0);
}
