/** The loss of each rung as stairs: from the floor that no model can get under, up to what is missed. */
import { type Ref, useCallback } from "react";
import type { Pen } from "../../look/pen";
import { cssColour } from "../../look/theme";
import { Canvas, type Drawing } from "../../parts/Canvas";

export interface Step {
  readonly name: string;
  /** Where there is little room. */
  readonly short: string;
  /** Nats per token on held-out text. */
  readonly loss: number | null;
  /** On the prompt; null while it is not known. */
  readonly here: number | null;
}

interface Props {
  steps: readonly Step[];
  /** Nats per token of the corpus's own distribution, where known. */
  floor: number | null;
  drawing: Ref<Drawing>;
}

const TOP = 34;
const BOTTOM = 30;
const SIZE = 13;
const HEIGHT = 210;
const GAP = 24;
const INSET = 6;
/** A narrower one has no room for two numbers side by side. */
const LEAST_BAND = 120;

export function Stairs({ steps, floor, drawing }: Props) {
  const draw = useCallback(
    (pen: Pen, width: number, height: number) => {
      const known = steps.flatMap(({ loss, here }) =>
        [loss, here].filter((each): each is number => each !== null),
      );
      const low = floor ?? 0;
      const high = Math.max(...known, low + 1e-6);
      const y = (nats: number) => TOP + (1 - (nats - low) / (high - low)) * (height - TOP - BOTTOM);
      const gap = Math.min(GAP, width / 40);
      const band = (width - gap * (steps.length - 1)) / steps.length;
      const narrow = band < LEAST_BAND;
      const ink = cssColour("--ink");
      const muted = cssColour("--muted");
      const accent = cssColour("--accent");
      let before: number | null = null;
      steps.forEach(({ name, short, loss, here }, index) => {
        const x = index * (band + gap);
        const plain = { colour: muted, size: SIZE, align: "start" } as const;
        pen.text(x, height - BOTTOM / 2, narrow ? short : name, plain);
        if (loss !== null) {
          pen.rect(x, y(loss), band, y(low) - y(loss), cssColour("--sunken"));
          pen.line([x, y(loss), x + band, y(loss)], accent, 2.5);
          pen.text(x, y(loss) - 14, loss.toFixed(3), { colour: ink, size: SIZE, bold: true });
          if (before !== null) {
            const by = loss - before;
            const sign = by > 0 ? "+" : "−";
            const gain = `${sign}${Math.abs(by).toFixed(3)}`;
            if (narrow) pen.text(x + INSET, y(low) - 14, gain, plain);
            else pen.text(x + band, y(loss) - 14, gain, { ...plain, align: "end" });
          }
          before = loss;
        }
        if (here !== null) pen.dot(x + band / 2, y(here), 4, ink);
      });
      pen.line([0, y(low), width, y(low)], cssColour("--edge"), 1, floor === null ? [] : [3, 3]);
    },
    [steps, floor],
  );
  const told = steps.map(({ name, loss }) => `${name} ${loss?.toFixed(3) ?? "not measured"}`);
  return (
    <Canvas
      height={HEIGHT}
      draw={draw}
      drawing={drawing}
      label={`Validation loss of each rung, in nats per token: ${told.join(", ")}`}
    />
  );
}
