/** The score of the lens in a box that scrolls: only the lines in sight are drawn, and a pointer moves
 * nothing but a frame. Arrows go from cell to cell, Enter pins, Escape lets go.
 */
import {
  type KeyboardEvent,
  type PointerEvent,
  type Ref,
  useCallback,
  useEffect,
  useImperativeHandle,
  useRef,
} from "react";
import { type Focus, type FocusStore, NOWHERE, useFocusPainter } from "../../focus";
import type { Pen } from "../../look/pen";
import { scale } from "../../look/scale";
import { cssColour, useTheme } from "../../look/theme";
import { type Drawing, drawingOf, prepare, useFonts, useWidth } from "../../parts/Canvas";
import { cellAt, type Cell, cornerOf, drawScore, HEAD, layoutOf, ROW, type Score } from "./score";

interface Props {
  score: Score;
  label: string;
  describe: (cell: Cell) => string;
  /** Its query is a position, its key a depth. */
  store: FocusStore;
  pinned: Cell;
  /** Whether the pinned cell is to be in sight: a link may name one that is far down. */
  reveal: boolean;
  onPin: (cell: Cell) => void;
  drawing: Ref<Drawing>;
}

function inks() {
  return { ink: cssColour("--ink"), muted: cssColour("--muted") };
}

export function ScoreView(props: Props) {
  const { score, label, describe, store, pinned, reveal, onPin, drawing } = props;
  const [measured, width] = useWidth();
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const pointer = useRef<HTMLDivElement>(null);
  const told = useRef<HTMLParagraphElement>(null);
  const theme = useTheme();
  const fonts = useFonts();
  const [positions, depths] = [score.heads.length, score.words.length];
  const place = layoutOf(positions, depths, width);

  const paint = useCallback(() => {
    const shown = box.current!;
    if (width === 0) return;
    const [from, high] = [shown.scrollTop, shown.clientHeight];
    const sheet = canvas.current!;
    sheet.style.width = `${width}px`;
    sheet.style.height = `${high}px`;
    const pen = prepare(sheet, width, high);
    drawScore(pen, score, layoutOf(positions, depths, width), scale("sequential", theme), inks(), [
      from,
      from + high,
    ]);
  }, [score, positions, depths, width, theme]);
  useEffect(() => {
    paint();
    addEventListener("resize", paint);
    return () => removeEventListener("resize", paint);
  }, [paint, fonts]);

  const [, pinnedTop] = cornerOf(place, { ...pinned, depth: -1 });
  useEffect(() => {
    const shown = box.current!;
    const below = pinnedTop + place.lineHeight > shown.scrollTop + shown.clientHeight;
    if (reveal && width > 0 && (below || pinnedTop < shown.scrollTop)) shown.scrollTop = pinnedTop;
  }, [reveal, width, pinnedTop, place.lineHeight]);

  useImperativeHandle(drawing, () => {
    const whole = [0, place.height] as const;
    const colours = scale("sequential", theme);
    const draw = (pen: Pen) => drawScore(pen, score, place, colours, inks(), whole);
    return drawingOf(draw, width, place.height);
  });

  useFocusPainter(store, ({ query, key }: Focus) => {
    const frame = pointer.current!;
    frame.hidden = query === null || key === null || query >= positions;
    if (frame.hidden) return;
    const [x, y] = cornerOf(place, { position: query!, depth: key! });
    frame.style.transform = `translate(${x}px, ${y}px)`;
    frame.style.width = `${place.cell}px`;
    frame.style.height = `${key! < 0 ? HEAD : ROW}px`;
  });

  const point = (event: PointerEvent) => {
    const area = event.currentTarget.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const cell = cellAt(place, positions, depths, x, y);
    return cell && { ...cell, depth: cell.depth < 0 ? depths - 1 : cell.depth };
  };
  const reach = (cell: Cell) => {
    store.set({ query: cell.position, key: cell.depth });
    if (told.current) told.current.textContent = describe(cell);
    const [, y] = cornerOf(place, cell);
    const shown = box.current!;
    if (y - HEAD < shown.scrollTop) shown.scrollTop = y - HEAD;
    else if (y + ROW > shown.scrollTop + shown.clientHeight) {
      shown.scrollTop = y + ROW - shown.clientHeight;
    }
  };
  const press = (event: KeyboardEvent) => {
    const { query, key } = store.get();
    const from = { position: query ?? pinned.position, depth: key ?? pinned.depth };
    const by = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      PageUp: [-place.perLine, 0],
      PageDown: [place.perLine, 0],
    }[event.key];
    if (by) {
      reach({
        position: clamp(from.position + by[0]!, positions),
        depth: clamp(from.depth + by[1]!, depths),
      });
    } else if (event.key === "Enter" || event.key === " ") onPin(from);
    else if (event.key === "Escape") store.set(NOWHERE);
    else return;
    event.preventDefault();
  };

  const [pinX, pinY] = cornerOf(place, { ...pinned, depth: -1 });
  return (
    <div className="score" ref={box} onScroll={paint}>
      <div ref={measured} style={{ height: place.height, position: "relative" }}>
        <div className="score-sight">
          <canvas ref={canvas} role="img" aria-label={label} className="score-canvas" />
        </div>
        <div
          className="score-pin"
          aria-hidden
          style={{
            transform: `translate(${pinX}px, ${pinY}px)`,
            width: place.cell,
            height: HEAD + depths * ROW,
          }}
        />
        <div ref={pointer} className="score-pointer" aria-hidden hidden />
        <div
          className="over"
          role="group"
          tabIndex={0}
          aria-label={`${label}. Arrows move, Enter pins.`}
          onPointerMove={(event) => {
            const cell = point(event);
            store.set(cell ? { query: cell.position, key: cell.depth } : NOWHERE);
          }}
          onPointerLeave={() => store.set(NOWHERE)}
          onBlur={() => store.set(NOWHERE)}
          onClick={(event) => {
            const cell = point(event as unknown as PointerEvent);
            if (cell) onPin(cell);
          }}
          onKeyDown={press}
        />
        <p ref={told} className="unseen" aria-live="polite" />
      </div>
    </div>
  );
}

function clamp(index: number, count: number): number {
  return Math.min(Math.max(index, 0), count - 1);
}
