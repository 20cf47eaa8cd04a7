/** What the pointer is on, shared by all views of one text. It changes too often for React to render
 * each change: views listen and repaint what they must. What is pinned is a place (place.ts).
 */
import { useEffect, useRef } from "react";

export interface Focus {
  /** The position that looks, and the one that is looked at. */
  readonly query: number | null;
  readonly key: number | null;
}

export const NOWHERE: Focus = { query: null, key: null };

/** When a listener is told. `early`, before the others: for who draws text on a canvas or scrolls; that
 * has the page styled at once, which costs nothing only as long as no other has changed it. `rest`, once
 * the focus has stayed for a moment: for what is read, not watched, such as lists of numbers, which would
 * take more of a frame than all that follows the pointer.
 */
export type When = "early" | "now" | "rest";

const REST_MS = 70;

export class FocusStore {
  private focus: Focus = NOWHERE;
  private readonly listeners = {
    early: new Set<(focus: Focus) => void>(),
    now: new Set<(focus: Focus) => void>(),
    rest: new Set<(focus: Focus) => void>(),
  };
  private resting: ReturnType<typeof setTimeout> | undefined;

  get = (): Focus => this.focus;

  set(focus: Focus): void {
    if (focus.query === this.focus.query && focus.key === this.focus.key) return;
    this.focus = focus;
    this.tell("early");
    this.tell("now");
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.tell("rest"), REST_MS);
  }

  listen(listener: (focus: Focus) => void, when: When = "now"): () => void {
    const among = this.listeners[when];
    among.add(listener);
    return () => among.delete(listener);
  }

  private tell(when: When): void {
    for (const listener of this.listeners[when]) listener(this.focus);
  }
}

/** Calls `paint` now, at every render and whenever the focus moves. */
export function useFocusPainter(
  store: FocusStore,
  paint: (focus: Focus) => void,
  when: When = "now",
): void {
  const latest = useRef(paint);
  useEffect(() => {
    latest.current = paint;
    paint(store.get());
  });
  useEffect(() => store.listen((focus) => latest.current(focus), when), [store, when]);
}
