/** The conversation with a run, kept while this browser tab is open: over pages and reloads. */
import { useCallback, useEffect, useRef, useState } from "react";
import { type Conversation, NOTHING_SAID, revived } from "./conversation";

const PAUSE_MS = 250;

function nameOf(run: string): string {
  return `nanogpt_jax.chat ${run}`;
}

export function load(run: string): Conversation {
  const text = sessionStorage.getItem(nameOf(run));
  if (!text) return NOTHING_SAID;
  try {
    return revived({ ...NOTHING_SAID, ...(JSON.parse(text) as Conversation) });
  } catch {
    return NOTHING_SAID;
  }
}

export function save(run: string, conversation: Conversation): void {
  try {
    sessionStorage.setItem(nameOf(run), JSON.stringify(conversation));
  } catch {
    // No room is left: the conversation goes on, and is gone with the page.
  }
}

export type Change = (before: Conversation) => Conversation;

/** The conversation, how to change it, and how to see what it has become. */
export function useConversation(
  run: string,
): [Conversation, (by: Change) => Conversation, () => Conversation] {
  const [conversation, set] = useState(() => load(run));
  const latest = useRef(conversation);
  useEffect(() => {
    const timer = setTimeout(() => save(run, conversation), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [run, conversation]);
  useEffect(() => {
    const keep = () => save(run, latest.current);
    addEventListener("pagehide", keep);
    return () => {
      removeEventListener("pagehide", keep);
      keep();
    };
  }, [run]);
  const become = useCallback((by: Change) => {
    latest.current = by(latest.current);
    set(latest.current);
    return latest.current;
  }, []);
  const get = useCallback(() => latest.current, []);
  return [conversation, become, get];
}
