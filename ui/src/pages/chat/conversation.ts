/** What was said, and what was said instead: a question that was edited and an answer that was drawn
 * again are kept beside the others, and one goes back to them.
 *
 * So a conversation is a tree; what is shown, and what the model reads, is one way through it.
 */
import type { Status, Written } from "../prompt/writing";

export interface Turn {
  readonly key: number;
  /** The turn that it follows; null: it is the first. */
  readonly after: number | null;
  readonly role: "user" | "assistant";
  readonly content: string;
  readonly answer: Answer | null;
}

/** How an answer came about. */
export interface Answer {
  readonly status: Status;
  readonly tokens: readonly Written[];
  /** Of the conversation, in the form that the model knows. */
  readonly read: readonly number[];
  /** Turns at the beginning that had no more room. */
  readonly forgotten: number;
  readonly seed: number;
  readonly problem: string | null;
}

export interface Conversation {
  /** What the assistant is told beforehand. */
  readonly system: string;
  readonly turns: readonly Turn[];
  /** Of the turns that follow another ("" before all), the one that is shown. */
  readonly shown: Readonly<Record<string, number>>;
}

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export const NOTHING_SAID: Conversation = { system: "", turns: [], shown: {} };

function placeOf(after: number | null): string {
  return after === null ? "" : String(after);
}

/** The turns that are shown, in order. */
export function way({ turns, shown }: Conversation): readonly Turn[] {
  const byKey = new Map(turns.map((turn) => [turn.key, turn]));
  const found: Turn[] = [];
  let next = byKey.get(shown[""] ?? -1);
  while (next) {
    found.push(next);
    next = byKey.get(shown[placeOf(next.key)] ?? -1);
  }
  return found;
}

/** The turns in one place, oldest first: `turn` and what was said instead. */
export function versions({ turns }: Conversation, turn: Turn): readonly Turn[] {
  return turns.filter((each) => each.after === turn.after);
}

export function turnOf({ turns }: Conversation, key: number): Turn | undefined {
  return turns.find((turn) => turn.key === key);
}

/** With one turn more, which is shown; and its key. */
export function add(
  conversation: Conversation,
  turn: Omit<Turn, "key">,
): [conversation: Conversation, key: number] {
  const key = 1 + Math.max(-1, ...conversation.turns.map((each) => each.key));
  const turns = [...conversation.turns, { ...turn, key }];
  return [show({ ...conversation, turns }, key), key];
}

/** Shows another version, and what followed it. */
export function show(conversation: Conversation, key: number): Conversation {
  const turn = turnOf(conversation, key);
  if (!turn) return conversation;
  const shown = { ...conversation.shown, [placeOf(turn.after)]: key };
  return { ...conversation, shown };
}

export function change(
  conversation: Conversation,
  key: number,
  by: (turn: Turn) => Partial<Turn>,
): Conversation {
  const turns = conversation.turns.map((turn) =>
    turn.key === key ? { ...turn, ...by(turn) } : turn,
  );
  return { ...conversation, turns };
}

/** What the model is told, up to the turn of a key, without the first turns that are forgotten. */
export function messages(
  conversation: Conversation,
  key: number,
  forgotten: number,
): readonly Message[] {
  const all = way(conversation);
  const said = all.slice(forgotten, all.findIndex((turn) => turn.key === key) + 1);
  const system = conversation.system.trim();
  return [
    ...(system ? [{ role: "system" as const, content: system }] : []),
    ...said.map(({ role, content }) => ({ role, content })),
  ];
}

/** As it is found again: what was being written when the page was left has stopped. */
export function revived(conversation: Conversation): Conversation {
  const turns = conversation.turns.map((turn) =>
    turn.answer?.status === "writing"
      ? { ...turn, answer: { ...turn.answer, status: "stopped" as const } }
      : turn,
  );
  return { ...conversation, turns };
}
