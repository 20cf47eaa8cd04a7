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

export class FocusStore {
  private focus: Focus = NOWHERE;
  private readonly early = new Set<(focus: Focus) => void>();
  private readonly listeners = new Set<(focus: Focus) => void>();

  get = (): Focus => this.focus;

  set(focus: Focus): void {
    if (focus.query === this.focus.query && focus.key === this.focus.key) return;
    this.focus = focus;
    for (const listener of this.early) listener(focus);
    for (const listener of this.listeners) listener(focus);
  }

  /** `early` is for who draws text on a canvas or scrolls: that has the page styled at once, which
   * costs nothing only as long as no other listener has changed it.
   */
  listen(listener: (focus: Focus) => void, early = false): () => void {
    const among = early ? this.early : this.listeners;
    among.add(listener);
    return () => among.delete(listener);
  }
}

/** Calls `paint` now, at every render and whenever the focus moves. */
export function useFocusPainter(
  store: FocusStore,
  paint: (focus: Focus) => void,
  early = false,
): void {
  const latest = useRef(paint);
  useEffect(() => {
    latest.current = paint;
    paint(store.get());
  });
  useEffect(() => store.listen((focus) => latest.current(focus), early), [store, early]);
}
