/** A text that a model goes on with: token by token, stopped when one likes, and gone on with from
 * any of its tokens as if another had been drawn.
 */
import { useCallback, useEffect, useReducer, useRef } from "react";
import { askJson, Problem, problemFrom, type Schemas, sentence } from "../../api/client";
import { events } from "../../api/events";
import { nameOf, type Subject } from "../../api/queries";
import type { Odd } from "../../parts/Odds";
import type { Settings } from "../../parts/settings";

export interface Written {
  readonly id: number;
  readonly logprob: number;
  readonly alternatives: readonly Odd[];
}

export type Status = "empty" | "writing" | "stopped" | "stop" | "length" | "abort" | "error";

export interface Text {
  readonly status: Status;
  /** The prompt as ids, known once the server has read it. */
  readonly given: readonly number[];
  readonly tokens: readonly Written[];
  readonly problem: Problem | null;
  /** What there was before each branch, the latest last. */
  readonly before: readonly Text[];
}

type Action =
  | { do: "begin"; given: readonly number[]; tokens: readonly Written[]; keep: boolean }
  | { do: "read"; given: readonly number[] }
  | { do: "draw"; tokens: readonly Written[] }
  | { do: "end"; status: Status; problem?: Problem | null }
  | { do: "undo" };

const EMPTY: Text = { status: "empty", given: [], tokens: [], problem: null, before: [] };
export const ALTERNATIVES = 10;

export function advance(text: Text, action: Action): Text {
  switch (action.do) {
    case "begin": {
      const { given, tokens } = action;
      const before = action.keep ? [...text.before, { ...text, before: [] }] : [];
      return { status: "writing", given, tokens, problem: null, before };
    }
    case "read":
      return text.given.length ? text : { ...text, given: action.given };
    case "draw":
      return { ...text, tokens: [...text.tokens, ...action.tokens] };
    case "end":
      if (text.status !== "writing") return text;
      return { ...text, status: action.status, problem: action.problem ?? null };
    case "undo": {
      const last = text.before.at(-1);
      return last ? { ...last, before: text.before.slice(0, -1) } : text;
    }
  }
}

type Event = Schemas["ContinueEvent"] | Schemas["TextAnswer"];

export interface Writing {
  readonly text: Text;
  readonly write: (prompt: string) => void;
  /** Goes on from token `index` as if `id` had been drawn there. */
  readonly branch: (index: number, id: number) => void;
  readonly undo: () => void;
  readonly stop: () => void;
}

export function useWriting(subject: Subject, settings: Settings): Writing {
  const [text, act] = useReducer(advance, EMPTY);
  const controller = useRef<AbortController>(new AbortController());
  const run = useCallback(
    async (prompt: string | readonly number[], drawn: number) => {
      controller.current.abort();
      const { signal } = (controller.current = new AbortController());
      const left = Math.max(settings.max_tokens - drawn, 1);
      const asked = { ...settings, max_tokens: left, alternatives: ALTERNATIVES, prompt };
      try {
        for await (const event of continuation(subject, asked, signal)) {
          if (signal.aborted) return;
          if ("prompt" in event && !drawn) act({ do: "read", given: event.prompt });
          if ("tokens" in event) act({ do: "draw", tokens: event.tokens });
          if ("finish" in event) act({ do: "end", status: event.finish, problem: cutOff(event) });
        }
      } catch (error) {
        const problem = problemFrom(error);
        if (problem) act({ do: "end", status: "error", problem });
      }
    },
    [subject, settings],
  );

  const stop = useCallback(() => {
    controller.current.abort();
    act({ do: "end", status: "stopped" });
  }, []);
  const name = nameOf(subject);
  useEffect(() => stop, [name, stop]);
  return {
    text,
    stop,
    write(prompt) {
      act({ do: "begin", given: [], tokens: [], keep: false });
      void run(prompt, 0);
    },
    branch(index, id) {
      const at = text.tokens[index]!;
      const chosen = at.alternatives.find((each) => each.id === id)!;
      const tokens = [...text.tokens.slice(0, index), { ...at, ...chosen }];
      act({ do: "begin", given: text.given, tokens, keep: true });
      void run([...text.given, ...tokens.map((token) => token.id)], tokens.length);
    },
    undo() {
      controller.current.abort();
      act({ do: "undo" });
    },
  };
}

/** What the engine streams; of checkpoints that it does not serve, the whole in one event. */
export async function* continuation(
  { run, step, served }: Subject,
  asked: object,
  signal: AbortSignal,
): AsyncGenerator<Event> {
  if (served) {
    yield* events<Event>("/api/continue", { body: asked, signal });
    return;
  }
  const body = { ...asked, run: run.name, step };
  yield await askJson<Schemas["TextAnswer"]>("/api/inspect/text", { body, signal });
}

/** Why a stream ended before its text did. */
export function cutOff(event: Event): Problem | null {
  const message = "message" in event ? event.message : null;
  return message ? new Problem(503, "cut_off", sentence(message)) : null;
}
