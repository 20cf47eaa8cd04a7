/** Lines over steps, such as losses: labelled at their ends, read off under the pointer. */
import { type KeyboardEvent, type Ref, useCallback, useMemo, useRef, useState } from "react";
import type { Pen } from "../look/pen";
import { cssColour } from "../look/theme";
import { Canvas, type Drawing } from "./Canvas";
import { drawNames, roomFor } from "./lineEnds";

export interface Series {
  readonly name: string;
  readonly steps: readonly number[];
  readonly values: readonly (number | null)[];
  /** A custom property of the theme, such as --accent. */
  readonly colour: string;
  readonly dashes?: readonly number[];
  readonly faint?: boolean;
}

/** Where steps lie, from 0 to 1, when that is not in proportion to them; and which are labelled. */
export interface Along {
  readonly share: (step: number) => number;
  readonly ticks: readonly number[];
}

interface Props {
  label: string;
  series: readonly Series[];
  height: number;
  along?: Along;
  /** Steps that can be pointed at and chosen; else those of the series. */
  stops?: readonly number[];
  /** A value that all lines are measured against, with its name. */
  floor?: { value: number; name: string } | undefined;
  /** A step that is marked; with `onStep` it can be chosen. */
  step?: number | null;
  onStep?: (step: number) => void;
  drawing?: Ref<Drawing>;
  digits?: number;
  /** How far to the right there is room, for lines that still grow. */
  until?: number | undefined;
  /** What lies across, where it is not steps: a value of it in words. */
  across?: (value: number) => string;
  /** Names the lines at their ends too, where there is room. */
  direct?: boolean;
}

/** Left of the first step and right of the last, in CSS pixels. */
export const LEFT = 48;
export const RIGHT = 8;
const BOTTOM = 26;
const TOP = 10;
const SIZE = 12;
const TICK_APART = 44;

/** About `count` round numbers from `low` to `high`. */
export function ticks(low: number, high: number, count: number): number[] {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].find((each) => each * power >= rough)! * power;
  const first = Math.ceil(low / unit - 1e-9);
  const last = Math.floor(high / unit + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * unit);
}

function written(value: number): string {
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return value >= 10_000 ? `${value / 1000}k` : String(Number(value.toPrecision(6)));
}

function boundsOf(series: readonly Series[], floor: number | undefined, until = 0) {
  let [low, high, first, last] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { steps, values } of series) {
    steps.forEach((step, index) => {
      const value = values[index];
      if (value === null || value === undefined || !Number.isFinite(value)) return;
      [low, high] = [Math.min(low, value), Math.max(high, value)];
      [first, last] = [Math.min(first, step), Math.max(last, step)];
    });
  }
  if (floor !== undefined && low < Infinity) low = Math.min(low, floor);
  if (low > high) [low, high, first, last] = [0, 1, 0, 1];
  last = Math.max(last, until);
  const margin = (high - low || 1) * 0.06;
  return { low: low - margin, high: high + margin, first, last: Math.max(last, first + 1) };
}

/** Where the last of a line's steps is that is not after `step`; -1 before the first. */
function indexAt({ steps }: Series, step: number): number {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle]! <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The value of a line at the last of its steps that is not after `step`. */
export function valueAt(series: Series, step: number): number | null {
  return series.values[indexAt(series, step)] ?? null;
}

/** How high the line is drawn at a step: between two measurements it is straight. */
export function heightAt(
  series: Series,
  step: number,
  share: (step: number) => number,
): number | null {
  const index = indexAt(series, step);
  const [from, to] = [series.values[index], series.values[index + 1]];
  if (typeof from !== "number" || typeof to !== "number") return from ?? null;
  const [left, right] = [share(series.steps[index]!), share(series.steps[index + 1]!)];
  return right > left ? from + ((share(step) - left) / (right - left)) * (to - from) : from;
}

const atStep = (step: number) => `step ${step.toLocaleString("en")}`;

export function Curve(props: Props) {
  const { series, height, along, stops, floor, step, onStep, digits = 4 } = props;
  const { until, across = atStep, direct = false } = props;
  const [pointed, setPointed] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const bounds = useMemo(
    () => boundsOf(series, floor?.value, until),
    [series, floor?.value, until],
  );
  const all = useMemo(
    () => stops ?? [...new Set(series.flatMap((each) => each.steps))].sort((a, b) => a - b),
    [series, stops],
  );
  const shareOf = useCallback(
    (at: number) => along?.share(at) ?? (at - bounds.first) / (bounds.last - bounds.first),
    [along, bounds],
  );
  const marked = pointed ?? step ?? null;

  const draw = useCallback(
    (pen: Pen, width: number, high: number) => {
      const right = width - (direct ? roomFor(width) : RIGHT);
      const x = (at: number) => LEFT + shareOf(at) * (right - LEFT);
      const y = (value: number) =>
        TOP + (1 - (value - bounds.low) / (bounds.high - bounds.low)) * (high - TOP - BOTTOM);
      const [muted, hairline] = [cssColour("--muted"), cssColour("--hairline")];
      for (const tick of ticks(
        bounds.low,
        bounds.high,
        Math.max(3.5, (high - TOP - BOTTOM) / 48),
      )) {
        pen.line([LEFT, y(tick), right, y(tick)], hairline, 1);
        if (all.length === 0) continue;
        pen.text(LEFT - 8, y(tick), written(tick), { colour: muted, size: SIZE, align: "end" });
      }
      let labelled = -Infinity;
      for (const tick of along?.ticks ??
        ticks(bounds.first, bounds.last, Math.max(2, width / 130))) {
        const style = { colour: muted, size: SIZE, align: "middle" } as const;
        if (x(tick) - labelled < TICK_APART) continue;
        labelled = x(tick);
        pen.text(Math.min(x(tick), right - 10), high - BOTTOM / 2, written(tick), style);
      }
      if (floor) {
        pen.line([LEFT, y(floor.value), right, y(floor.value)], muted, 1, [3, 3]);
        // Where lines begin high: at their ends the name would be in their way.
        pen.text(LEFT + 4, y(floor.value) - 9, floor.name, { colour: muted, size: SIZE });
      }
      for (const each of series) {
        const points = each.steps.flatMap((at, index) => [x(at), y(each.values[index] ?? NaN)]);
        pen.line(points, cssColour(each.colour), each.faint ? 1 : 2, each.dashes);
        if (points.length === 2) pen.dot(points[0]!, points[1]!, 3, cssColour(each.colour));
      }
      if (direct && right < width - RIGHT) {
        const ends = series.flatMap((each) => {
          const value = valueAt(each, Infinity);
          return value === null ? [] : { ...each, x: x(each.steps.at(-1)!), y: y(value) };
        });
        drawNames(pen, ends, right, width, high - BOTTOM);
      }
      if (marked !== null && (along || (marked >= bounds.first && marked <= bounds.last))) {
        pen.line([x(marked), TOP, x(marked), high - BOTTOM], cssColour("--edge"), 1);
        for (const each of series) {
          const value = heightAt(each, marked, shareOf);
          if (value !== null) pen.dot(x(marked), y(value), 3.5, cssColour(each.colour));
        }
      }
    },
    [series, bounds, shareOf, along, all, floor, marked, direct],
  );

  const stepAt = (clientX: number): number | null => {
    const area = box.current?.getBoundingClientRect();
    if (!area || all.length === 0) return null;
    const right = direct ? roomFor(area.width) : RIGHT;
    const wanted = (clientX - area.left - LEFT) / (area.width - LEFT - right);
    const away = (each: number) => Math.abs(shareOf(each) - wanted);
    return all.reduce((best, each) => (away(each) < away(best) ? each : best));
  };
  const press = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || all.length === 0) return;
    event.preventDefault();
    const index = marked === null ? all.length - 1 : all.findIndex((each) => each >= marked);
    const next =
      all[Math.min(Math.max((index < 0 ? all.length - 1 : index) + by, 0), all.length - 1)]!;
    if (onStep) onStep(next);
    else setPointed(next);
  };

  return (
    <div className="stack tight">
      <Canvas height={height} draw={draw} label={props.label} drawing={props.drawing}>
        <div
          ref={box}
          className="over"
          role="group"
          tabIndex={0}
          aria-label={`${props.label}. Left and right move along the steps.`}
          onPointerMove={(event) => setPointed(stepAt(event.clientX))}
          onPointerLeave={() => setPointed(null)}
          onClick={(event) => {
            const at = stepAt(event.clientX);
            if (at !== null) onStep?.(at);
          }}
          onKeyDown={press}
        />
      </Canvas>
      <ul className="legend">
        {series.map((each) => {
          const value = valueAt(each, marked ?? Infinity);
          const measured = marked === null ? marked : each.steps[indexAt(each, marked)];
          return (
            <li key={each.name}>
              <Swatch series={each} />
              <span>{each.name}</span>
              <span className="numeric">{value === null ? "–" : value.toFixed(digits)}</span>
              {value !== null && measured !== marked && (
                <span className="muted numeric">at {across(measured!)}</span>
              )}
            </li>
          );
        })}
        <li className="end muted numeric" aria-live="polite">
          {marked === null ? "at the end" : `at ${across(marked)}`}
        </li>
      </ul>
    </div>
  );
}

function Swatch({ series }: { series: Series }) {
  const look = `${series.faint ? 1 : 2}px ${series.dashes ? "dashed" : "solid"} var(${series.colour})`;
  return <span className="swatch" style={{ borderTop: look }} aria-hidden />;
}
