/** What a text loses by each part of a model. */
import { type Arrays, field } from "../../api/arrays";
import { keyOf } from "./silenced";

/** Mean bits a token that are needed more without each part, by the part's key. */
export function harmOf(ablation: Arrays): Map<string, number> {
  const nats = field(ablation, "nats").data;
  const P = nats.length;
  const more = (data: ArrayLike<number>, start: number) => {
    let sum = 0;
    for (let index = 0; index < P; index++) sum += data[start + index]! - nats[index]!;
    return sum / P / Math.LN2;
  };
  const heads = field(ablation, "without_head_nats");
  const [L, H] = heads.shape as [number, number];
  const mlps = ablation.fields.without_mlp_nats;
  const found = new Map<string, number>();
  for (let layer = 0; layer < L; layer++) {
    for (let head = 0; head < H; head++) {
      found.set(keyOf({ layer, head }), more(heads.data, (layer * H + head) * P));
    }
    if (mlps) found.set(keyOf({ layer, head: null }), more(mlps.data, layer * P));
  }
  return found;
}

/** Harms below this are all faint, in a model where no part matters. */
const LEAST_MOST_BITS = 0.05;

/** The place of a harm on a diverging scale, whose middle is none. One part may matter ten times more
 * than the next: the root keeps both apart from none.
 */
export function boardShare(bits: number, harm: ReadonlyMap<string, number>): number {
  const most = Math.max(...harm.values(), LEAST_MOST_BITS);
  return 0.5 + (Math.sign(bits) * Math.sqrt(Math.min(Math.abs(bits) / most, 1))) / 2;
}

/** With its sign, as it is written on a switch. */
export function signed(bits: number): string {
  const text = Math.abs(bits) < 10 ? bits.toFixed(2) : bits.toFixed(1);
  if (Number(text) === 0) return "0";
  return bits > 0 ? `+${text}` : text.replace("-", "−");
}
