/** One axis for all that lies over a run's checkpoints: the slider, the film strip and the curves.
 *
 * Each checkpoint has an equal share of the width. They are saved close together early, when most is
 * learned, so this shows that time in detail.
 */
import type { Along } from "../../parts/Curve";

/** At most `most` of the steps, with the first and the last, evenly by their place in the list. */
export function thinned(steps: readonly number[], most: number): readonly number[] {
  if (steps.length <= most) return steps;
  return Array.from(
    { length: most },
    (_, index) => steps[Math.round((index * (steps.length - 1)) / (most - 1))]!,
  );
}

/** The one of `steps` that is nearest on the axis. */
export function nearest(steps: readonly number[], step: number): number {
  const away = (each: number) => Math.abs(Math.log1p(each) - Math.log1p(step));
  return steps.reduce((best, each) => (away(each) < away(best) ? each : best));
}

/** The middle of the place of checkpoint `index` of `count`, from 0 to 1. */
export function middle(index: number, count: number): number {
  return (index + 0.5) / count;
}

/** Between two checkpoints a step lies by its logarithm, as checkpoints themselves are spaced. */
export function alongCheckpoints(steps: readonly number[]): Along {
  const places = steps.map((step) => Math.log1p(step));
  const share = (step: number) => {
    const place = Math.log1p(step);
    let left = 0;
    while (left < places.length - 2 && places[left + 1]! <= place) left++;
    const [from, to] = [places[left]!, places[left + 1] ?? places[left]! + 1];
    const index = left + (place - from) / (to - from);
    return Math.min(Math.max((index + 0.5) / steps.length, 0), 1);
  };
  return { share, ticks: steps };
}
