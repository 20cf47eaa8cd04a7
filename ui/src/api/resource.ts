/** What was asked once is kept: a page that is left and entered again shows at once what it showed.
 *
 * A key names a question with everything in it. While the answer to a new key is awaited, the last
 * one stays, marked as not fresh.
 */
import { useEffect, useState, useSyncExternalStore } from "react";
import { type Problem, problemFrom } from "./client";
import { useConnection } from "./connection";

export interface Resource<T> {
  readonly value: T | undefined;
  readonly problem: Problem | null;
  /** Whether `value` answers the question that is asked now. */
  readonly fresh: boolean;
}

const MOST_KEPT = 400;
const kept = new Map<string, unknown>();

export function keep(key: string, value: unknown): void {
  kept.delete(key);
  kept.set(key, value);
  for (const oldest of kept.keys()) {
    if (kept.size <= MOST_KEPT) break;
    kept.delete(oldest);
  }
}

export function keptValue<T>(key: string): T | undefined {
  return kept.get(key) as T | undefined;
}

/** Forgets answers whose key begins so, because they may have changed. */
export function forget(prefix: string): void {
  for (const key of [...kept.keys()]) if (key.startsWith(prefix)) kept.delete(key);
}

const ages = new Map<string, number>();
const shown = new Set<() => void>();

function ageOf(key: string | null): number {
  let age = 0;
  for (const [prefix, renewals] of ages) if (key?.startsWith(prefix)) age += renewals;
  return age;
}

function subscribe(changed: () => void): () => void {
  shown.add(changed);
  return () => shown.delete(changed);
}

/** Asks anew what is shown and has a key that begins so, because it has changed. */
export function renew(prefix: string): void {
  ages.set(prefix, (ages.get(prefix) ?? 0) + 1);
  for (const changed of shown) changed();
}

/** Asks, or gives what is kept. */
export async function fetchKept<T>(
  key: string,
  load: (signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const found = keptValue<T>(key);
  if (found !== undefined) return found;
  const value = await load(signal);
  keep(key, value);
  return value;
}

interface Answered<T> {
  key: string | null;
  value: T | undefined;
  problem: Problem | null;
}

/** The answer to the question that `key` names; null asks nothing.
 *
 * `again` asks anew when it changes, though the key is the same; so does a server that came back.
 */
export function useResource<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  again: unknown = 0,
): Resource<T> {
  const { epoch } = useConnection();
  const age = useSyncExternalStore(subscribe, () => ageOf(key));
  const [answered, setAnswered] = useState<Answered<T>>({
    key: null,
    value: undefined,
    problem: null,
  });
  useEffect(() => {
    if (key === null) return;
    const controller = new AbortController();
    load(controller.signal).then(
      (value) => {
        if (controller.signal.aborted) return;
        keep(key, value);
        setAnswered({ key, value, problem: null });
      },
      (error: unknown) => {
        const problem = problemFrom(error);
        if (controller.signal.aborted || !problem) return;
        setAnswered((before) => ({ key, value: before.value, problem }));
      },
    );
    return () => controller.abort();
    // `load` is made anew at every render and means what `key` says.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [key, again, epoch, age]);
  if (key === null) return { value: undefined, problem: null, fresh: true };
  if (answered.key === key) {
    return { value: answered.value, problem: answered.problem, fresh: !answered.problem };
  }
  const found = keptValue<T>(key);
  if (found !== undefined) return { value: found, problem: null, fresh: true };
  return { value: answered.value, problem: null, fresh: false };
}
