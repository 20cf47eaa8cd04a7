/** The stories of runs as far as they were read, for all who show them, and reading on. */
import { useMemo, useSyncExternalStore } from "react";
import { askJson, Problem, type Schemas } from "./client";
import { withQuery } from "./queries";
import { type Polled, usePolled } from "./polled";
import { NOTHING, readOn, type Story } from "./story";

let known: ReadonlyMap<string, Story> = new Map();
const reading = new Map<string, Promise<void>>();
const listeners = new Set<() => void>();

function subscribe(changed: () => void): () => void {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

/** Reads to the end of what a run has written; two who ask at once are one. */
function readStory(run: string): Promise<void> {
  const work = reading.get(run) ?? readNews(run).finally(() => reading.delete(run));
  reading.set(run, work);
  return work;
}

async function readNews(run: string): Promise<void> {
  let story = known.get(run) ?? NOTHING;
  for (let more = true; more;) {
    const path = withQuery("/api/history", { run, after: story.next });
    const news = await askJson<Schemas["History"]>(path).catch(noRunYet);
    if (!news) return;
    ({ more } = news);
    if (news.next === story.next && news.rewind === null) return;
    story = readOn(story, news);
  }
  known = new Map(known).set(run, story);
  for (const changed of listeners) changed();
}

/** A process that has just started has not made its files. */
function noRunYet(error: unknown): null {
  if (error instanceof Problem && error.status === 404) return null;
  throw error;
}

/** The stories of runs by name, read anew every so often (null: once). */
export function useStories(
  names: readonly string[],
  everyMs: number | null,
  again: unknown = 0,
): { stories: ReadonlyMap<string, Story>; problem: Polled<unknown>["problem"] } {
  const key = names.join("\n");
  const { problem } = usePolled(
    key ? `stories ${key}` : null,
    async () => {
      for (const name of names) await readStory(name);
    },
    everyMs,
    again,
  );
  const all = useSyncExternalStore(subscribe, () => known);
  const stories = useMemo(() => {
    const wanted = key.split("\n").flatMap((name) => {
      const story = all.get(name);
      return story ? [[name, story] as const] : [];
    });
    return new Map(wanted);
  }, [all, key]);
  return { stories, problem };
}
