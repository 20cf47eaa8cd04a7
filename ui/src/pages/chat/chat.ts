/** Asking and being answered: what is sent, what comes back, and what is left out when a
 * conversation no longer fits into the model's context.
 */
import { useCallback, useEffect, useRef } from "react";
import { Problem, problemFrom } from "../../api/client";
import { nameOf, type Subject } from "../../api/queries";
import type { Settings } from "../../parts/settings";
import { ALTERNATIVES, continuation, cutOff } from "../prompt/writing";
import {
  add,
  type Answer,
  change,
  type Conversation,
  messages,
  NOTHING_SAID,
  show,
  turnOf,
  versions,
  way,
} from "./conversation";
import { useConversation } from "./kept";

/** Of the context, what an answer should find free; else the oldest turns are forgotten. */
const ROOM = 1 / 4;

export interface Chat {
  readonly conversation: Conversation;
  readonly writing: boolean;
  readonly ask: (text: string) => void;
  /** Another answer to the same question. */
  readonly again: (answer: number) => void;
  /** Says something else in the place of a question, and goes on from there. */
  readonly edit: (question: number, text: string) => void;
  readonly show: (key: number) => void;
  readonly tell: (system: string) => void;
  readonly stop: () => void;
  readonly restart: () => void;
}

export function useChat(subject: Subject, settings: Settings): Chat {
  const { run, vocabulary } = subject;
  const [conversation, become, get] = useConversation(run.name);
  const controller = useRef(new AbortController());
  const name = nameOf(subject);
  useEffect(() => () => controller.current.abort(), [name]);

  const amend = useCallback(
    (key: number, by: Partial<Answer> | ((answer: Answer) => Partial<Answer>)) =>
      become((before) =>
        change(before, key, ({ answer }) => {
          const changed = { ...answer!, ...(typeof by === "function" ? by(answer!) : by) };
          const content = vocabulary.decode(changed.tokens.map(({ id }) => id));
          return { answer: changed, content };
        }),
      ),
    [become, vocabulary],
  );

  /** One try; whether there is room for it. */
  const attempt = async (key: number, question: number, forgotten: number) => {
    const { signal } = (controller.current = new AbortController());
    const most = forgotten + 1 < way(get()).findIndex((turn) => turn.key === question);
    const { seed } = turnOf(get(), key)!.answer!;
    const prompt = messages(get(), question, forgotten);
    const asked = { ...settings, seed, alternatives: ALTERNATIVES, prompt };
    try {
      for await (const event of continuation(subject, asked, signal)) {
        if (signal.aborted) return true;
        if ("prompt" in event) {
          if (most && event.prompt.length > run.context * (1 - ROOM)) return false;
          amend(key, { read: event.prompt, forgotten });
        }
        if ("tokens" in event) {
          amend(key, (answer) => ({ tokens: [...answer.tokens, ...event.tokens] }));
        }
        if ("finish" in event) {
          amend(key, { status: event.finish, problem: cutOff(event)?.message ?? null });
        }
      }
    } catch (error) {
      const full = error instanceof Problem && error.tag === "context_length_exceeded";
      if (full && most) return false;
      const problem = problemFrom(error);
      if (problem) amend(key, { status: "error", problem: problem.message });
    }
    return true;
  };

  const answer = async (question: number) => {
    controller.current.abort();
    let key = 0;
    become((before) => {
      const others = before.turns.filter((turn) => turn.after === question).length;
      const answer: Answer = {
        status: "writing",
        tokens: [],
        read: [],
        forgotten: 0,
        seed: (settings.seed + others) % 2 ** 32,
        problem: null,
      };
      const turn = { after: question, role: "assistant", content: "", answer } as const;
      const [after, added] = add(before, turn);
      key = added;
      return after;
    });
    for (let forgotten = 0; !(await attempt(key, question, forgotten)); forgotten += 2) {
      controller.current.abort();
    }
  };

  const say = (content: string, after: number | null) => {
    let key = 0;
    become((before) => {
      const [said, added] = add(before, { after, role: "user", content, answer: null });
      key = added;
      return said;
    });
    void answer(key);
  };

  const stop = useCallback(() => {
    controller.current.abort();
    for (const { key, answer } of get().turns) {
      if (answer?.status === "writing") amend(key, { status: "stopped" });
    }
  }, [amend, get]);

  return {
    conversation,
    writing: conversation.turns.some((turn) => turn.answer?.status === "writing"),
    ask: (text) => say(text, way(get()).at(-1)?.key ?? null),
    again(key) {
      stop();
      void answer(turnOf(get(), key)!.after!);
    },
    edit(key, text) {
      stop();
      const question = turnOf(get(), key)!;
      const same = versions(get(), question).find((turn) => turn.content === text);
      if (same) become((before) => show(before, same.key));
      else say(text, question.after);
    },
    show: (key) => {
      stop();
      become((before) => show(before, key));
    },
    tell: (system) => become((before) => ({ ...before, system })),
    stop,
    restart() {
      stop();
      become(({ system }) => ({ ...NOTHING_SAID, system }));
    },
  };
}
