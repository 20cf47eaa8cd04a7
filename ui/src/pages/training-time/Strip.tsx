/** The film strip: a head's attention at every checkpoint, small, each under its place of the slider. */
import { type KeyboardEvent, type Ref, useCallback, useMemo, useRef } from "react";
import type { Pen } from "../../look/pen";
import { scale, type Theme } from "../../look/scale";
import { cssColour, useTheme } from "../../look/theme";
import { Canvas, type Drawing, useWidth } from "../../parts/Canvas";
import { LEFT, RIGHT } from "../../parts/Curve";
import { pictureOf } from "../../parts/Heatmap";
import { arrowed } from "../../parts/Segments";
import { middle } from "./axis";
import { type Frame, lookOf, shadesOf } from "./frame";

interface Props {
  steps: readonly number[];
  step: number;
  frames: ReadonlyMap<number, Frame>;
  layer: number;
  head: number;
  go: (step: number) => void;
  drawing: Ref<Drawing>;
}

/** Made once for each frame, head and theme. */
const made = new WeakMap<Frame, { key: string; picture: HTMLCanvasElement | null }>();

function smallPicture(frame: Frame, layer: number, head: number, theme: Theme) {
  const key = `${layer} ${head} ${theme}`;
  const known = made.get(frame);
  if (known?.key === key) return known.picture;
  const look = lookOf(frame, layer, head);
  const colours = scale("sequential", theme);
  const picture = look && pictureOf(shadesOf(look), colours, [0, 1], true);
  made.set(frame, { key, picture });
  return picture;
}

const LEAST_PX = 36;
const MOST_PX = 64;
const GAP = 4;

/** Which of `count` pictures have room in `width`, the last always, and how large they are. */
export function roomFor(count: number, width: number): { every: number; size: number } {
  const each = (width - LEFT - RIGHT) / count;
  const every = Math.max(Math.ceil(LEAST_PX / Math.max(each, 1)), 1);
  return { every, size: Math.min(Math.max(each * every - GAP, LEAST_PX - GAP), MOST_PX) };
}

export function Strip({ steps, step, frames, layer, head, go, drawing }: Props) {
  const theme = useTheme();
  const [measure, width] = useWidth();
  const box = useRef<HTMLDivElement>(null);
  const { every, size } = roomFor(steps.length, width);
  const shown = useMemo(
    () => steps.filter((_, index) => (steps.length - 1 - index) % every === 0),
    [steps, every],
  );
  const pictures = useMemo(
    () =>
      shown.map((each) => {
        const frame = frames.get(each);
        return frame ? smallPicture(frame, layer, head, theme) : null;
      }),
    [shown, frames, layer, head, theme],
  );
  const centre = useCallback(
    (each: number, across: number) =>
      LEFT + middle(steps.indexOf(each), steps.length) * (across - LEFT - RIGHT),
    [steps],
  );
  const draw = useCallback(
    (pen: Pen, across: number) => {
      const paper = cssColour("--sunken");
      pictures.forEach((picture, index) => {
        const left = centre(shown[index]!, across) - size / 2;
        pen.rect(left, 0, size, size, paper);
        if (picture) pen.image(left, 0, size, size, picture);
      });
    },
    [pictures, shown, centre, size],
  );
  // Of the pictures, the one that shows the step, or the last before it.
  const current = shown.findLastIndex((each) => each <= step);
  const press = (event: KeyboardEvent) => {
    const next = arrowed(event.key, Math.max(current, 0), shown.length);
    if (next === null) return;
    event.preventDefault();
    go(shown[next]!);
    box.current?.querySelectorAll("button")[next]?.focus();
  };
  return (
    <div ref={measure}>
      <Canvas
        height={size}
        draw={draw}
        drawing={drawing}
        label={`Attention of head ${head} in layer ${layer} at ${shown.length} checkpoints, a small picture each`}
      >
        <div ref={box} className="strip" role="group" aria-label="Checkpoints" onKeyDown={press}>
          {shown.map((each, index) => (
            <button
              key={each}
              type="button"
              aria-label={`Step ${each}`}
              aria-current={each === step ? "step" : undefined}
              tabIndex={index === Math.max(current, 0) ? 0 : -1}
              style={{ left: centre(each, width) - size / 2, width: size, height: size }}
              onClick={() => go(each)}
            />
          ))}
        </div>
      </Canvas>
    </div>
  );
}
