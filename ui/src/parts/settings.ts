/** How tokens are drawn, as the address holds it; `side` b is the second of two settings. */
import { choose, usePlace } from "../place";

export interface Settings {
  readonly temperature: number;
  readonly top_k: number;
  readonly top_p: number;
  readonly seed: number;
  readonly max_tokens: number;
}

export type Side = "a" | "b";
export type SettingName = keyof Settings;

const USUAL: Record<Side, Settings> = {
  a: { temperature: 0.8, top_k: 0, top_p: 1, seed: 1, max_tokens: 80 },
  b: { temperature: 1.4, top_k: 0, top_p: 1, seed: 1, max_tokens: 80 },
};

/** Values of side a have the names of the settings; those of b end in -b. */
function nameOf(name: SettingName, side: Side): string {
  return side === "a" ? name : `${name}-b`;
}

export function useSettings(side: Side): [Settings, (name: SettingName, value: number) => void] {
  const { values } = usePlace();
  const settings = Object.fromEntries(
    Object.entries(USUAL[side]).map(([name, usual]) => {
      const text = values[nameOf(name as SettingName, side)];
      const number = Number(text);
      return [name, text !== undefined && Number.isFinite(number) ? number : usual];
    }),
  ) as unknown as Settings;
  const set = (name: SettingName, value: number) => {
    choose({ [nameOf(name, side)]: value === USUAL[side][name] ? null : value });
  };
  return [settings, set];
}
