/** The text as tokens over a canvas of shades. Hundreds of shades change with the pointer; as styles of
 * the tokens they would have each of them styled and painted anew, on a canvas they are rectangles.
 */
import { useCallback, useEffect, useMemo, useRef } from "react";
import { type Focus, type FocusStore, useFocusPainter } from "../../focus";
import { cssColour, rgbOf, useTheme } from "../../look/theme";
import { prepare, useFonts, useWidth } from "../../parts/Canvas";
import { TokenText } from "../../parts/TokenText";
import type { Vocabulary } from "../../text/vocabulary";
import { shadeOf } from "./looks";

/** As in TokenText: how much of the accent a full shade has. */
const MOST_ACCENT = 0.46;
const STEPS = 32;

interface Box {
  readonly token: number;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

interface Props {
  tokens: readonly number[];
  vocabulary: Vocabulary;
  label: string;
  store: FocusStore;
  shown: (focus: Focus) => { query: number; key: number | null };
  row: (query: number) => ArrayLike<number>;
  /** The weight that is drawn darkest. */
  top: number;
  pinned: number | null;
  onPin: (query: number) => void;
}

export function ShadedText(props: Props) {
  const { tokens, vocabulary, label, store, shown, row, top, pinned, onPin } = props;
  const [box, width] = useWidth();
  const canvas = useRef<HTMLCanvasElement>(null);
  const placed = useRef<{ boxes: readonly Box[]; height: number }>({ boxes: [], height: 0 });
  const theme = useTheme();
  const fonts = useFonts();
  const plain = useMemo(() => tokens.map((id) => ({ id })), [tokens]);
  const colours = useRef<readonly string[]>([]);

  const shade = useCallback(
    (focus: Focus) => {
      const { boxes, height } = placed.current;
      const weights = row(shown(focus).query);
      const pen = prepare(canvas.current!, width, height);
      for (const { token, x, y, width, height } of boxes) {
        const share = shadeOf(weights[token] ?? 0, top);
        pen.rect(x, y, width, height, colours.current[Math.round(share * STEPS)]!);
      }
    },
    [row, shown, top, width],
  );
  // Tokens are where they are until the text, the width or the font changes.
  useEffect(() => {
    const [accent, sunken] = [rgbOf(cssColour("--accent")), rgbOf(cssColour("--sunken"))];
    colours.current = Array.from({ length: STEPS + 1 }, (_, step) => {
      const share = (MOST_ACCENT * step) / STEPS;
      return `rgb(${sunken.map((from, at) => Math.round(from + share * (accent[at]! - from))).join(" ")})`;
    });
    placed.current = boxesOf(canvas.current!.parentElement!);
    shade(store.get());
  }, [tokens, vocabulary, width, fonts, theme, shade, store]);
  useFocusPainter(store, shade, "early");

  return (
    <div ref={box} className="shaded">
      <canvas ref={canvas} aria-hidden />
      <TokenText
        tokens={plain}
        vocabulary={vocabulary}
        label={label}
        store={store}
        pinned={pinned}
        onPin={onPin}
        paint={(chips, focus) => {
          const { query, key } = shown(focus);
          mark(chips, "data-query", query);
          mark(chips, "data-key", key);
        }}
      />
    </div>
  );
}

/** Gives an attribute to one of the tokens, and takes it from whichever had it. */
function mark(chips: HTMLCollection, name: string, at: number | null): void {
  const chip = at === null ? null : chips[at];
  const before = chips[0]?.parentElement?.querySelector(`[${name}]`);
  if (before === chip) return;
  before?.removeAttribute(name);
  chip?.setAttribute(name, "");
}

/** Where the tokens lie in their box; one that is broken over two lines has two places. */
function boxesOf(element: HTMLElement): { boxes: readonly Box[]; height: number } {
  const { left, top, height } = element.getBoundingClientRect();
  const boxes = [...element.querySelectorAll(".token")].flatMap((chip, token) =>
    [...chip.getClientRects()].map((rect) => {
      return { token, x: rect.left - left, y: rect.top - top, ...sizeOf(rect) };
    }),
  );
  return { boxes, height };
}

function sizeOf({ width, height }: DOMRect) {
  return { width, height };
}
