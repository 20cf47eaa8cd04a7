/** Playing the film: one checkpoint after the other, and the keys that move it from anywhere on the
 * page. */
import { useEffect, useState } from "react";

export const SPEEDS = { slow: 1, usual: 2.5, fast: 6 } as const;
export type Speed = keyof typeof SPEEDS;

export interface Player {
  readonly playing: boolean;
  readonly toggle: () => void;
}

interface Playing {
  steps: readonly number[];
  step: number;
  /** Whether a step can be shown; one that cannot yet is waited for. */
  ready: (step: number) => boolean;
  speed: Speed;
  go: (step: number) => void;
}

export function usePlayer({ steps, step, ready, speed, go }: Playing): Player {
  const [playing, setPlaying] = useState(false);
  const index = steps.indexOf(step);
  const next = steps[index + 1];
  const possible = next === undefined || ready(next);
  useEffect(() => {
    if (!playing || !possible) return;
    const timer = setTimeout(() => {
      if (next === undefined) setPlaying(false);
      else go(next);
    }, 1000 / SPEEDS[speed]);
    return () => clearTimeout(timer);
  }, [playing, possible, next, speed, go]);
  const toggle = () => {
    if (!playing && next === undefined) go(steps[0]!);
    setPlaying(!playing);
  };
  useKeys({
    " ": toggle,
    ArrowLeft: () => go(steps[Math.max(index - 1, 0)]!),
    ArrowRight: () => go(next ?? step),
    Home: () => go(steps[0]!),
    End: () => go(steps.at(-1)!),
  });
  return { playing, toggle };
}

/** Keys that no control under the focus has a use for. */
function useKeys(acts: Readonly<Record<string, () => void>>): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const act = acts[event.key];
      const bare = !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
      if (!act || !bare || event.defaultPrevented || needs(event.target as Element, event.key)) {
        return;
      }
      event.preventDefault();
      act();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}

/** Whether an element does something with a key by itself. */
export function needs(element: Element, key: string): boolean {
  if (element.matches("textarea, select, [contenteditable], input:not([type=range])")) return true;
  if (key === " ") return element.matches("button, summary, a");
  return element.matches("input, [role=tab], [role=radio], [role=group] *, .over, .scroll");
}
