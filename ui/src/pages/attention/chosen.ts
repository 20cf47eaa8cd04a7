/** What is chosen on this page, as the address has it: a head, a pinned token, what is left out. */
import { choose } from "../../place";
import type { Head } from "./looks";

export interface Chosen {
  readonly layer: number;
  readonly head: Head;
  /** The token that looks, and one that it looks at; null: none is pinned. */
  readonly pin: number | null;
  readonly pinKey: number | null;
  readonly leaveOutFirst: boolean;
}

/** Whole numbers from 0 to below `size` alone; a link may say anything. */
function whole(text: string | undefined, size: number): number | null {
  if (text === undefined || !/^\d+$/.test(text)) return null;
  return Number(text) < size ? Number(text) : null;
}

export function chosenFrom(
  values: Readonly<Record<string, string>>,
  { layers, heads, length }: { layers: number; heads: number; length: number },
): Chosen {
  const named = values.head === "mean" || values.head === "max" ? values.head : null;
  const pin = whole(values.pin, length);
  return {
    layer: whole(values.layer, layers) ?? 0,
    head: named ?? whole(values.head, heads) ?? 0,
    pin,
    pinKey: pin === null ? null : whole(values["pin-key"], pin + 1),
    leaveOutFirst: values.sink === "1",
  };
}

export function chooseHead(layer: number, head: Head): void {
  choose({ layer, head });
}

export function pinAt(query: number | null, key: number | null = null): void {
  choose({ pin: query, "pin-key": key });
}
