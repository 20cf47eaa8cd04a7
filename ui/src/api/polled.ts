/** Asks again and again, each time after the answer before: a slow server is not asked twice at once. */
import { useEffect, useRef, useState } from "react";
import { Problem, problemFrom } from "./client";
import { useConnection } from "./connection";

export interface Polled<T> {
  readonly value: T | undefined;
  readonly problem: Problem | null;
}

const HIDDEN_MS = 500;

/** The latest answer for `key`; null asks nothing. Every `everyMs`, or once where that is null. */
export function usePolled<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  everyMs: number | null,
  again: unknown = 0,
): Polled<T> {
  const { epoch, here } = useConnection();
  const latest = useRef(load);
  useEffect(() => {
    latest.current = load;
  });
  const [found, setFound] = useState<Polled<T> & { key: string | null }>({
    key: null,
    value: undefined,
    problem: null,
  });
  useEffect(() => {
    if (key === null || !here) return;
    const controller = new AbortController();
    const { signal } = controller;
    const poll = async () => {
      while (!signal.aborted) {
        let waitMs = everyMs;
        try {
          const value = await latest.current(signal);
          if (signal.aborted) return;
          setFound((before) => (same(before, key, value) ? before : { key, value, problem: null }));
        } catch (error) {
          const problem = problemFrom(error);
          if (signal.aborted || !problem) return;
          // That the server is away, or asked too often, is no fault of what was asked.
          const busy = problem.status === 0 || problem.status === 429;
          if (busy) waitMs = Math.max(everyMs ?? 0, 1000 * (problem.retrySeconds ?? 1));
          else setFound((before) => ({ ...kept(before, key), key, problem }));
        }
        if (waitMs === null) return;
        await pause(waitMs);
        while (document.hidden && !signal.aborted) await pause(HIDDEN_MS);
      }
    };
    void poll();
    return () => controller.abort();
  }, [key, everyMs, again, epoch, here]);
  return found.key === key ? found : { value: undefined, problem: null };
}

function same<T>(before: Polled<T> & { key: string | null }, key: string, value: T): boolean {
  return before.key === key && before.value === value && !before.problem;
}

function kept<T>(before: Polled<T> & { key: string | null }, key: string): Polled<T> {
  return before.key === key ? before : { value: undefined, problem: null };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
