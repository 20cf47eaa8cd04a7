/** Every head as a small picture, layers down and heads across: a button each, one stop of the Tab
 * key. Arrows choose; the row of the token that looks is marked in all of them.
 */
import { type KeyboardEvent, useEffect, useMemo, useRef } from "react";
import { type FocusStore, useFocusPainter } from "../../focus";
import { scale } from "../../look/scale";
import { useTheme } from "../../look/theme";
import { pictureOf } from "../../parts/Heatmap";
import { type Chosen, chooseHead } from "./chosen";
import { type Head, headName, type Looks, pooled, shadeOf } from "./looks";

const MOST_CELLS = 64;

interface Props {
  looks: Looks;
  layers: number;
  chosen: Chosen;
  store: FocusStore;
}

export function HeadGrid({ looks, layers, chosen, store }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const heads = useMemo<readonly Head[]>(
    () => [...Array.from({ length: looks.heads }, (_, head) => head), "mean", "max"],
    [looks.heads],
  );
  useFocusPainter(store, ({ query }) => {
    const shown = query ?? chosen.pin ?? looks.length - 1;
    const where = `translateY(${(100 * (shown + 0.5)) / looks.length}%)`;
    // One for all heads of a layer: each that moves is styled anew.
    for (const mark of box.current!.getElementsByTagName("i")) mark.style.transform = where;
  });
  const press = (event: KeyboardEvent) => {
    const moves: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      Home: [0, -heads.length],
      End: [0, heads.length],
    };
    const by = moves[event.key];
    if (!by) return;
    event.preventDefault();
    const layer = Math.min(Math.max(chosen.layer + by[0], 0), layers - 1);
    const column = heads.indexOf(chosen.head) + by[1];
    const next = Math.min(Math.max(column, 0), heads.length - 1);
    chooseHead(layer, heads[next]!);
    box.current
      ?.querySelectorAll<HTMLElement>("button")
      [layer * heads.length + next]?.focus({ preventScroll: true });
  };
  return (
    <div
      ref={box}
      className="heads"
      role="grid"
      aria-label="Heads by layer"
      style={{ "--heads": heads.length }}
      onKeyDown={press}
    >
      <div role="row">
        <span role="columnheader">
          <span className="unseen">layer</span>
        </span>
        {heads.map((head) => (
          <span key={head} role="columnheader">
            {head}
          </span>
        ))}
      </div>
      {Array.from({ length: layers }, (_, layer) => (
        <div key={layer} role="row">
          <span role="rowheader">
            <span className="unseen">layer </span>
            {layer}
          </span>
          {heads.map((head) => {
            const shown = layer === chosen.layer && head === chosen.head;
            return (
              <span key={head} role="gridcell" aria-selected={shown}>
                <button
                  type="button"
                  tabIndex={shown ? 0 : -1}
                  aria-label={`layer ${layer}, ${headName(head)}`}
                  onClick={() => chooseHead(layer, head)}
                >
                  {looks.layers.includes(layer) && (
                    <Thumbnail looks={looks} layer={layer} head={head} />
                  )}
                </button>
              </span>
            );
          })}
          <i aria-hidden />
        </div>
      ))}
    </div>
  );
}

function Thumbnail({ looks, layer, head }: { looks: Looks; layer: number; head: Head }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  useEffect(() => {
    const small = pooled(looks.weights(layer, head), looks.length, MOST_CELLS);
    const shades = { ...small, values: small.values.map((each) => shadeOf(each, looks.top)) };
    const picture = pictureOf(shades, scale("sequential", theme), [0, 1], true);
    const { width, height } = picture;
    Object.assign(canvas.current!, { width, height });
    canvas.current!.getContext("2d")!.drawImage(picture, 0, 0);
  }, [looks, layer, head, theme]);
  return <canvas ref={canvas} aria-hidden />;
}
