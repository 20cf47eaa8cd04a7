/** All experts of a layer at a glance: a row for each, a column for each token, as dark as its gate. */
import { type PointerEvent, type Ref, useCallback, useMemo, useRef } from "react";
import { type FocusStore, NOWHERE, useFocusPainter } from "../../focus";
import type { Pen } from "../../look/pen";
import { scale } from "../../look/scale";
import { cssColour, useTheme } from "../../look/theme";
import { Canvas, type Drawing } from "../../parts/Canvas";
import { pictureOf } from "../../parts/Heatmap";

interface Props {
  gates: ArrayLike<number>;
  experts: number;
  labels: readonly string[];
  chosen: number;
  store: FocusStore;
  pinned: number | null;
  onPin: (token: number) => void;
  label: string;
  drawing: Ref<Drawing>;
}

const LEFT = 26;
const ROW = 18;
const LABEL_PX = 11;
const LABELS = 64;

/** Whether tokens can stand under their columns. */
function hasRoom(width: number, length: number): boolean {
  return (width - LEFT) / length >= LABEL_PX + 2;
}

export function ExpertStrip(props: Props) {
  const { gates, experts, labels, chosen, store, pinned, onPin, label, drawing } = props;
  const { length } = labels;
  const theme = useTheme();
  const mark = useRef<HTMLDivElement>(null);
  const picture = useMemo(() => {
    const values = new Float32Array(experts * length);
    for (let token = 0; token < length; token++) {
      for (let expert = 0; expert < experts; expert++) {
        values[expert * length + token] = gates[token * experts + expert]!;
      }
    }
    const matrix = { values, rows: experts, columns: length };
    return pictureOf(matrix, scale("sequential", theme), [0, 1]);
  }, [gates, experts, length, theme]);
  const draw = useCallback(
    (pen: Pen, width: number) => {
      pen.image(LEFT, 0, width - LEFT, experts * ROW, picture);
      for (let expert = 0; expert < experts; expert++) {
        const here = expert === chosen;
        const colour = cssColour(here ? "--ink" : "--muted");
        const style = { colour, size: 11, align: "end", mono: true, bold: here } as const;
        pen.text(LEFT - 8, (expert + 0.5) * ROW, String(expert), style);
      }
      if (!hasRoom(width, length)) return;
      const across = (width - LEFT) / length;
      labels.forEach((label, token) => {
        const style = { colour: cssColour("--muted"), size: LABEL_PX, mono: true };
        const x = LEFT + (token + 0.5) * across;
        pen.text(x, experts * ROW + 6, label.slice(0, 9), { ...style, align: "end", turn: -90 });
      });
    },
    [picture, experts, chosen, labels, length],
  );
  useFocusPainter(store, ({ query }) => {
    if (!mark.current) return;
    const { style } = mark.current;
    const token = query ?? pinned;
    style.visibility = token === null ? "" : "visible";
    if (token !== null) style.left = `calc(${LEFT}px + (100% - ${LEFT}px) * ${token / length})`;
  });
  const tokenAt = (event: PointerEvent | React.MouseEvent) => {
    const box = event.currentTarget.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT);
    return share >= 0 && share < 1 ? Math.floor(share * length) : null;
  };
  return (
    <Canvas
      height={(width) => experts * ROW + (hasRoom(width, length) ? LABELS : 0)}
      draw={draw}
      label={label}
      drawing={drawing}
    >
      <div
        className="over"
        onPointerMove={(event) => {
          const query = tokenAt(event);
          store.set(query === null ? NOWHERE : { query, key: null });
        }}
        onPointerLeave={() => store.set(NOWHERE)}
        onClick={(event) => {
          const token = tokenAt(event);
          if (token !== null) onPin(token);
        }}
      />
      <div
        ref={mark}
        className="column"
        aria-hidden
        style={{ width: `calc((100% - ${LEFT}px) / ${length})`, height: experts * ROW }}
      />
    </Canvas>
  );
}
