/** One token and the tokens that it is linked to, strongest first; repainted when the pointer rests,
 * without rendering.
 */
import { useRef } from "react";
import { type Focus, type FocusStore, useFocusPainter } from "../../focus";
import { percent } from "../../parts/Odds";
import { strongest } from "./looks";

interface Props {
  store: FocusStore;
  /** The token that it is about, and another that is meant with it, if any. */
  shown: (focus: Focus) => { query: number; key: number | null };
  /** How strongly it is linked to each token. */
  weights: (token: number) => ArrayLike<number>;
  /** The weight that fills a bar. */
  top: number;
  labels: readonly string[];
  /** How the token is linked to the listed ones, such as "looks at". */
  link: string;
  count: number;
}

export function Strongest({ store, shown, weights, top, labels, link, count }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const paint = (focus: Focus) => {
    const { query, key } = shown(focus);
    const all = weights(query);
    const tokens = strongest(all, count);
    // The one that is pointed at is told however weak it is.
    if (key !== null && key < all.length && !tokens.includes(key)) {
      tokens[Math.min(tokens.length, count - 1)] = key;
    }
    const [title, list] = [...box.current!.children] as [HTMLElement, HTMLElement];
    tell(title.firstElementChild!, labels[query]!);
    [...list.children].forEach((line, index) => {
      const at = tokens[index];
      (line as HTMLElement).style.visibility = at === undefined ? "hidden" : "";
      if (at === undefined) return;
      const [word, bar, number] = [...line.firstElementChild!.children] as HTMLElement[];
      tell(word!, labels[at]!);
      bar!.style.setProperty("--share", String(Math.min(all[at]! / top, 1)));
      tell(number!, percent(all[at]!));
      line.classList.toggle("chosen", at === key);
    });
  };
  useFocusPainter(store, paint, "rest");
  return (
    <div ref={box} className="stack tight strongest">
      <h3>
        <span className="mono" /> {link}
      </h3>
      <ol className="odds">
        {Array.from({ length: count }, (_, index) => (
          <li key={index}>
            <div>
              <span className="word" />
              <span className="bar" />
              <span className="number" />
            </div>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** Text that is the same is left alone, and what changes keeps its node: a new one is built anew. */
function tell(element: Element, text: string): void {
  const node = element.firstChild as Text | null;
  if (node === null) element.textContent = text;
  else if (node.data !== text) node.data = text;
}
