/** Whether the server is there. When it went away it is asked until it is back, and `epoch` grows. */
import { useSyncExternalStore } from "react";

export interface Connection {
  readonly here: boolean;
  readonly epoch: number;
}

const FIRST_MS = 500;
const MOST_MS = 5000;

let state: Connection = { here: true, epoch: 0 };
const listeners = new Set<() => void>();

function become(next: Connection): void {
  state = next;
  for (const listener of listeners) listener();
}

async function look(waitMs: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  if (state.here) return;
  const there = await fetch("/ready").then(
    (response) => response.ok,
    () => false,
  );
  if (there) connection.found();
  else void look(Math.min(2 * waitMs, MOST_MS));
}

export const connection = {
  get: (): Connection => state,
  lost(): void {
    if (!state.here) return;
    become({ ...state, here: false });
    void look(FIRST_MS);
  },
  found(): void {
    if (!state.here) become({ here: true, epoch: state.epoch + 1 });
  },
  subscribe(changed: () => void): () => void {
    listeners.add(changed);
    return () => listeners.delete(changed);
  },
};

export function useConnection(): Connection {
  return useSyncExternalStore(connection.subscribe, connection.get);
}
