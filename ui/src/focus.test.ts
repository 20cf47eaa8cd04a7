import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Focus, FocusStore } from "./focus";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("who draws is told first, who is read only once the pointer rests", () => {
  const store = new FocusStore();
  const told: string[] = [];
  const note = (who: string) => (focus: Focus) => told.push(`${who} ${focus.query}`);
  store.listen(note("rest"), "rest");
  store.listen(note("now"));
  store.listen(note("early"), "early");
  for (const query of [1, 2, 2, 3]) {
    store.set({ query, key: null });
    vi.advanceTimersByTime(30);
  }
  expect(told).toEqual(["early 1", "now 1", "early 2", "now 2", "early 3", "now 3"]);
  vi.advanceTimersByTime(1000);
  expect(told.slice(6)).toEqual(["rest 3"]);
});
