/** Two texts token by token, one over the other; where they differ is marked.
 *
 * One stop of the Tab key: arrows go along a text and from one to the other, Enter presses. A token of
 * the first text chooses where the answer is said, one of the second is exchanged.
 */
import { type KeyboardEvent, useRef } from "react";
import { type FocusStore, NOWHERE, useFocusPainter } from "../../focus";
import type { Vocabulary } from "../../text/vocabulary";

interface Props {
  clean: readonly number[];
  other: readonly number[];
  vocabulary: Vocabulary;
  /** The last token that is read. */
  end: number;
  onEnd: (position: number) => void;
  /** The position that is being exchanged. */
  picking: number | null;
  onPick: (position: number) => void;
  /** Its key is a position. */
  store: FocusStore;
}

export function Aligned(props: Props) {
  const { clean, other, vocabulary, end, onEnd, picking, onPick, store } = props;
  const box = useRef<HTMLDivElement>(null);
  const hovered = useRef<Element | null>(null);
  useFocusPainter(store, ({ key }) => {
    hovered.current?.removeAttribute("data-hovered");
    hovered.current = key === null ? null : (box.current?.children[key] ?? null);
    hovered.current?.setAttribute("data-hovered", "");
  });
  const point = (target: EventTarget | null) => {
    const column = (target as Element | null)?.closest("[data-position]");
    const key = column ? Number(column.getAttribute("data-position")) : null;
    store.set(key === null ? NOWHERE : { query: null, key });
  };
  const press = (event: KeyboardEvent) => {
    const from = event.target as HTMLElement;
    const column = from.parentElement!;
    const row = [...column.children].indexOf(from);
    const next = {
      ArrowLeft: column.previousElementSibling?.children[row],
      ArrowRight: column.nextElementSibling?.children[row],
      ArrowUp: column.children[0],
      ArrowDown: column.children[1],
    }[event.key] as HTMLElement | undefined;
    if (!next) return;
    event.preventDefault();
    next.focus();
  };
  const length = Math.max(clean.length, other.length);
  const chip = (id: number | undefined, row: 0 | 1, position: number) => {
    if (id === undefined) return <span className="token missing">no token</span>;
    const label = vocabulary.label(id);
    const differs = clean[position] !== other[position];
    const told = row === 0 ? "read up to" : "exchange";
    return (
      <button
        type="button"
        className={differs ? "token differs" : "token"}
        aria-label={`${told} token ${position}: ${label}${differs ? ", differs" : ""}`}
        aria-pressed={row === 0 ? position === end : position === picking}
        disabled={row === 1 && position === 0}
        tabIndex={row === 0 && position === Math.min(end, clean.length - 1) ? 0 : -1}
        onClick={() => (row === 0 ? onEnd(position) : onPick(position))}
      >
        {label}
      </button>
    );
  };
  return (
    <div
      ref={box}
      className="aligned"
      role="group"
      aria-label="Both texts, token by token"
      onKeyDown={press}
      onPointerOver={(event) => point(event.target)}
      onPointerLeave={() => point(null)}
      onFocus={(event) => point(event.target)}
      onBlur={() => point(null)}
    >
      {Array.from({ length }, (_, position) => (
        <span
          key={position}
          className={position > end ? "pair beyond" : "pair"}
          data-position={position}
        >
          {chip(clean[position], 0, position)}
          {chip(other[position], 1, position)}
        </span>
      ))}
    </div>
  );
}
