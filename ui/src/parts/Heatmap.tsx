/** A matrix of numbers as colours. The picture is drawn once; what the pointer is on lies over it and
 * is all that a movement repaints.
 *
 * With the keyboard: arrows move, Enter pins, Escape lets go; what is reached is read out.
 */
import {
  type KeyboardEvent,
  type PointerEvent,
  type Ref,
  useCallback,
  useEffect,
  useMemo,
  useRef,
} from "react";
import { type Focus, type FocusStore, NOWHERE, useFocusPainter } from "../focus";
import type { Pen } from "../look/pen";
import { scale, type ScaleName, step } from "../look/scale";
import { cssColour, useTheme } from "../look/theme";
import { Canvas, type Drawing } from "./Canvas";

export interface Matrix {
  readonly values: ArrayLike<number>;
  readonly rows: number;
  readonly columns: number;
}

interface Props {
  matrix: Matrix;
  colours: ScaleName;
  /** What the first and the last colour stand for. */
  range: readonly [number, number];
  /** Columns beyond the row are left empty, as a causal mask leaves them. */
  causal?: boolean;
  rowLabels?: readonly string[];
  columnLabels?: readonly string[];
  label: string;
  /** A cell in words. */
  describe: (row: number, column: number) => string;
  store: FocusStore;
  pinned?: Focus;
  onPin?: (row: number, column: number) => void;
  drawing?: Ref<Drawing>;
  /** Height of a row at most, in CSS pixels; without it, as many rows as columns make a square. */
  tallest?: number;
}

const LABEL_PX = 11;
const GAP = 6;

/** The cells as a picture, a pixel each. */
export function pictureOf(
  { values, rows, columns }: Matrix,
  colours: Uint8ClampedArray,
  [low, high]: readonly [number, number],
  causal = false,
): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(columns, 1);
  canvas.height = Math.max(rows, 1);
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(canvas.width, canvas.height);
  for (let row = 0; row < rows; row++) {
    const end = causal ? Math.min(row + 1, columns) : columns;
    for (let column = 0; column < end; column++) {
      const cell = row * columns + column;
      const from = 4 * step((values[cell]! - low) / (high - low));
      for (let channel = 0; channel < 4; channel++) {
        image.data[4 * cell + channel] = colours[from + channel]!;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Where cells lie within a width. */
function layout(width: number, props: Props) {
  const { matrix, rowLabels, columnLabels, tallest } = props;
  const longest = (labels: readonly string[] | undefined) =>
    labels ? Math.min(Math.max(...labels.map((each) => each.length), 1), 12) * 6.8 + GAP : 0;
  const left = longest(rowLabels);
  const across = Math.max(width - left, 1);
  const cellWidth = across / matrix.columns;
  const fits = columnLabels?.every((each) => each.length * 6.8 < cellWidth - 4) ?? true;
  const top = columnLabels ? (fits ? LABEL_PX + 2 * GAP : longest(columnLabels)) : 0;
  const square = tallest === undefined && matrix.rows === matrix.columns;
  const cellHeight = square ? cellWidth : Math.min(Math.max(cellWidth, 18), tallest ?? 34);
  const { rows, columns } = matrix;
  const down = cellHeight * rows;
  return { left, top, across, cellWidth, cellHeight, fits, down, rows, columns };
}

export function Heatmap(props: Props) {
  const { matrix, colours, range, causal, rowLabels, columnLabels, describe, store } = props;
  const theme = useTheme();
  const told = useRef<HTMLParagraphElement>(null);
  const picture = useMemo(
    () => pictureOf(matrix, scale(colours, theme), range, causal),
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [matrix, colours, theme, range[0], range[1], causal],
  );
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });

  const draw = useCallback(
    (pen: Pen, width: number) => {
      const place = layout(width, { ...latest.current, matrix, rowLabels, columnLabels } as Props);
      const muted = cssColour("--muted");
      pen.image(place.left, place.top, place.across, place.down, picture);
      const every = (size: number) => Math.ceil((LABEL_PX + 2) / size);
      rowLabels?.forEach((text, row) => {
        if (row % every(place.cellHeight)) return;
        const y = place.top + (row + 0.5) * place.cellHeight;
        pen.text(place.left - GAP, y, short(text), {
          colour: muted,
          size: LABEL_PX,
          align: "end",
          mono: true,
        });
      });
      columnLabels?.forEach((text, column) => {
        if (column % every(place.cellWidth)) return;
        const x = place.left + (column + 0.5) * place.cellWidth;
        const style = { colour: muted, size: LABEL_PX, mono: true };
        if (place.fits) pen.text(x, place.top / 2, text, { ...style, align: "middle" });
        else pen.text(x, place.top - GAP, short(text), { ...style, align: "start", turn: -90 });
      });
    },
    [matrix, picture, rowLabels, columnLabels],
  );

  const cellAt = (event: PointerEvent): Focus => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = layout(box.width, props);
    const row = Math.floor((event.clientY - box.top - place.top) / place.cellHeight);
    const column = Math.floor((event.clientX - box.left - place.left) / place.cellWidth);
    const inside = row >= 0 && row < matrix.rows && column >= 0 && column < matrix.columns;
    return inside && !(causal && column > row) ? { query: row, key: column } : NOWHERE;
  };
  const press = (event: KeyboardEvent) => {
    const { query, key } = store.get();
    const moves: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const by = moves[event.key];
    if (by) {
      const row = Math.min(Math.max((query ?? matrix.rows - 1) + by[0], 0), matrix.rows - 1);
      const most = causal ? Math.min(row, matrix.columns - 1) : matrix.columns - 1;
      const column = Math.min(Math.max((key ?? most) + by[1], 0), most);
      store.set({ query: row, key: column });
      if (told.current) told.current.textContent = describe(row, column);
    } else if (event.key === "Enter" && query !== null && key !== null) {
      props.onPin?.(query, key);
    } else if (event.key === "Escape") {
      store.set(NOWHERE);
    } else return;
    event.preventDefault();
  };

  return (
    <Canvas
      height={(width) => {
        const place = layout(Math.max(width, 1), props);
        return place.top + place.down;
      }}
      draw={draw}
      label={props.label}
      drawing={props.drawing}
    >
      {(width) => (
        <>
          <Marks place={layout(width, props)} store={store} pinned={props.pinned} />
          <div
            className="over"
            role="group"
            tabIndex={0}
            aria-label={`${props.label}. Arrows move, Enter pins.`}
            onPointerMove={(event) => store.set(cellAt(event))}
            onPointerLeave={() => store.set(NOWHERE)}
            onClick={(event) => {
              const { query, key } = cellAt(event as unknown as PointerEvent);
              if (query !== null && key !== null) props.onPin?.(query, key);
            }}
            onKeyDown={press}
          />
          <p ref={told} className="unseen" aria-live="polite" />
        </>
      )}
    </Canvas>
  );
}

interface MarksProps {
  place: Place;
  store: FocusStore;
  pinned: Focus | undefined;
}

/** Frames about the row and the column that are pointed at, and about those that are pinned.
 *
 * Boxes that are moved, not a canvas: what moves is put together anew, and nothing is drawn.
 */
function Marks({ place, store, pinned }: MarksProps) {
  const row = useRef<HTMLDivElement>(null);
  const column = useRef<HTMLDivElement>(null);
  useFocusPainter(store, ({ query, key }) => {
    moveTo(row.current!, query !== null && query < place.rows ? rowAt(place, query) : null);
    moveTo(column.current!, key !== null && key < place.columns ? columnAt(place, key) : null);
  });
  const { query = null, key = null } = pinned ?? {};
  const across = { width: place.across, height: place.cellHeight };
  const down = { width: place.cellWidth, height: place.down };
  return (
    <div aria-hidden>
      {query !== null && query < place.rows && (
        <div className="mark pinned" style={{ ...across, transform: rowAt(place, query) }} />
      )}
      {key !== null && key < place.columns && (
        <div className="mark pinned" style={{ ...down, transform: columnAt(place, key) }} />
      )}
      <div ref={row} className="mark" style={across} />
      <div ref={column} className="mark" style={down} />
    </div>
  );
}

type Place = ReturnType<typeof layout>;

const rowAt = ({ left, top, cellHeight }: Place, row: number) =>
  `translate(${left}px, ${top + row * cellHeight}px)`;
const columnAt = ({ left, top, cellWidth }: Place, column: number) =>
  `translate(${left + column * cellWidth}px, ${top}px)`;

function moveTo(element: HTMLElement, where: string | null): void {
  element.style.opacity = where ? "1" : "0";
  if (where) element.style.transform = where;
}

function short(text: string): string {
  return text.length > 12 ? `${text.slice(0, 11)}…` : text;
}
