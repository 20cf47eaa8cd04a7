/** A text as its tokens: shaded by a number each, linked by the pointer to every other view of it.
 *
 * One stop of the Tab key; arrows go from token to token, Enter pins.
 */
import { type KeyboardEvent, memo, useRef } from "react";
import { type Focus, type FocusStore, NOWHERE, useFocusPainter } from "../focus";
import type { Vocabulary } from "../text/vocabulary";
import { arrowed } from "./Segments";

export interface TextToken {
  readonly id: number;
  /** From 0, plain, to 1, the accent; what it stands for is told beside it. */
  readonly shade?: number;
  /** Shaded in the second hue: the other side of a diverging scale. */
  readonly other?: boolean;
  /** Was there before the model wrote. */
  readonly given?: boolean;
}

interface Props {
  tokens: readonly TextToken[];
  vocabulary: Vocabulary;
  label: string;
  store: FocusStore;
  /** Which side of the focus a token is: the one that looks, or the one that is looked at. */
  side?: "query" | "key";
  pinned?: number | null;
  onPin?: (index: number) => void;
  /** Marks chips by what the pointer is on, without rendering. */
  paint?: (chips: HTMLCollection, focus: Focus) => void;
}

export function TokenText(props: Props) {
  const { tokens, vocabulary, label, store, side = "query", pinned = null, onPin } = props;
  const box = useRef<HTMLDivElement>(null);
  const hovered = useRef<Element | null>(null);
  useFocusPainter(store, (focus) => {
    hovered.current?.removeAttribute("data-hovered");
    const index = focus[side];
    hovered.current = index === null ? null : (box.current?.children[index] ?? null);
    hovered.current?.setAttribute("data-hovered", "");
    if (box.current) props.paint?.(box.current.children, focus);
  });
  const indexOf = (target: EventTarget) => {
    const chip = (target as Element).closest("[data-index]");
    return chip ? Number(chip.getAttribute("data-index")) : null;
  };
  const point = (index: number | null) =>
    store.set(index === null ? NOWHERE : { ...NOWHERE, [side]: index });
  const press = (event: KeyboardEvent) => {
    const index = indexOf(event.target);
    const next = index === null ? null : arrowed(event.key, index, tokens.length);
    if (next === null) return;
    event.preventDefault();
    (box.current?.children[next] as HTMLElement | undefined)?.focus();
  };
  return (
    <div
      ref={box}
      className="tokens"
      role="group"
      aria-label={label}
      onPointerOver={(event) => point(indexOf(event.target))}
      onPointerLeave={() => point(null)}
      onFocus={(event) => point(indexOf(event.target))}
      onBlur={() => point(null)}
      onKeyDown={press}
      onClick={(event) => {
        const index = indexOf(event.target);
        if (index !== null) onPin?.(index);
      }}
    >
      {tokens.map((token, index) => (
        <Chip
          key={index}
          index={index}
          id={token.id}
          shade={token.shade ?? 0}
          given={token.given ?? false}
          other={token.other ?? false}
          pinned={index === pinned}
          reachable={index === (pinned ?? tokens.length - 1)}
          vocabulary={vocabulary}
        />
      ))}
    </div>
  );
}

interface ChipProps {
  index: number;
  id: number;
  shade: number;
  given: boolean;
  other: boolean;
  pinned: boolean;
  reachable: boolean;
  vocabulary: Vocabulary;
}

const Chip = memo(function Chip(props: ChipProps) {
  const { text, blank } = props.vocabulary.shown(props.id);
  return (
    <button
      type="button"
      className={`token${props.given ? " given" : ""}${props.other ? " other" : ""}`}
      data-index={props.index}
      aria-pressed={props.pinned}
      aria-label={`token ${props.index}: ${props.vocabulary.label(props.id)}`}
      tabIndex={props.reachable ? 0 : -1}
      style={{ "--shade": props.shade.toFixed(3) }}
    >
      {blank ? <span className="blank">{text === " " ? "·" : text}</span> : text}
    </button>
  );
});
