/** The text in one line that scrolls, under arcs. The canvas is as wide as what is seen of the line and
 * is drawn anew when the line or the pointer moves, so that long texts cost no more than short ones.
 */
import {
  type PointerEvent,
  type Ref,
  useCallback,
  useEffect,
  useImperativeHandle,
  useMemo,
  useRef,
} from "react";
import { type Focus, type FocusStore, NOWHERE, useFocusPainter } from "../../focus";
import { type Pen, widthOf } from "../../look/pen";
import { colour, scale } from "../../look/scale";
import { cssColour, useTheme } from "../../look/theme";
import { type Drawing, drawingOf, prepare, useFonts, useWidth } from "../../parts/Canvas";
import { drawLine, LINE_HEIGHT, placesOf, TEXT_SIZE, tokenAt } from "./line";

interface Props {
  texts: readonly string[];
  row: (query: number) => ArrayLike<number>;
  /** The weight that is drawn darkest. */
  top: number;
  shown: (focus: Focus) => { query: number; key: number | null };
  store: FocusStore;
  onPin: (query: number) => void;
  label: string;
  drawing: Ref<Drawing>;
}

export function Arcs({ texts, row, top, shown, store, onPin, label, drawing }: Props) {
  const [box, width] = useWidth();
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const own = useRef(false);
  // Kept here, because asking the element would have the page laid out at every movement.
  const from = useRef(0);
  const theme = useTheme();
  const fonts = useFonts();
  const places = useMemo(
    () => placesOf(texts, (text) => widthOf(text, { size: TEXT_SIZE, mono: true })),
    // Widths change when the font comes.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [texts, fonts],
  );
  const long = places.at(-1)!;
  const colours = useMemo(() => {
    const table = scale("sequential", theme);
    const [ink, muted, soft, accent] = ["--ink", "--muted", "--accent-soft", "--accent"].map(
      cssColour,
    ) as [string, string, string, string];
    return { ink, muted, soft, accent, of: (share: number) => colour(table, share) };
  }, [theme]);

  const draw = useCallback(
    (pen: Pen, focus: Focus, from: number, wide: number) => {
      const { query, key } = shown(focus);
      drawLine(pen, { texts, places, query, key, weights: row(query), top }, from, wide, colours);
    },
    [texts, places, shown, row, top, colours],
  );
  const paint = (focus: Focus) => {
    if (!canvas.current || !scroller.current || width === 0) return;
    const { query } = shown(focus);
    // Who points into the line itself must not have it moved away.
    if (!own.current && long > width) {
      const next = reached(from.current, places[query]!, width, long);
      if (next !== from.current) scroller.current.scrollLeft = from.current = next;
    }
    draw(prepare(canvas.current, width, LINE_HEIGHT), focus, from.current, width);
  };
  useFocusPainter(store, paint, "early");
  useEffect(() => {
    const element = scroller.current!;
    const moved = () => {
      if (!canvas.current || width === 0 || from.current === element.scrollLeft) return;
      from.current = element.scrollLeft;
      draw(prepare(canvas.current, width, LINE_HEIGHT), store.get(), from.current, width);
    };
    element.addEventListener("scroll", moved, { passive: true });
    return () => element.removeEventListener("scroll", moved);
  }, [draw, store, width]);
  useImperativeHandle(
    drawing,
    () => drawingOf((pen) => draw(pen, store.get(), 0, long), Math.ceil(long), LINE_HEIGHT),
    [draw, store, long],
  );

  const at = (event: PointerEvent | React.MouseEvent) => {
    const left = scroller.current!.getBoundingClientRect().left;
    return tokenAt(places, event.clientX - left + from.current);
  };
  return (
    <div ref={box} style={{ minWidth: 0 }}>
      <div
        ref={scroller}
        className="scroll arcs"
        tabIndex={0}
        role="region"
        aria-label={label}
        onPointerMove={(event) => {
          own.current = true;
          const query = at(event);
          store.set(query === null ? NOWHERE : { query, key: null });
        }}
        onPointerLeave={() => {
          store.set(NOWHERE);
          own.current = false;
        }}
        onClick={(event) => {
          const query = at(event);
          if (query !== null) onPin(query);
        }}
      >
        <div style={{ width: long, height: LINE_HEIGHT }}>
          <canvas ref={canvas} aria-hidden style={{ width, height: LINE_HEIGHT }} />
        </div>
      </div>
    </div>
  );
}

/** From where the line is to be seen, so that x is in view with more before it than after. */
function reached(from: number, x: number, width: number, long: number): number {
  if (x > from + 0.1 * width && x < from + 0.9 * width) return from;
  return Math.round(Math.min(Math.max(x - 0.75 * width, 0), long - width));
}
