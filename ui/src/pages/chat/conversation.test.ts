import { beforeEach, expect, test } from "vitest";
import {
  add,
  type Answer,
  type Conversation,
  messages,
  NOTHING_SAID,
  show,
  type Turn,
  versions,
  way,
} from "./conversation";
import { load, save } from "./kept";

const DONE: Answer = {
  status: "stop",
  tokens: [],
  read: [],
  forgotten: 0,
  seed: 1,
  problem: null,
};

/** Adds a question after a turn, or the answer to one. */
function say(
  before: Conversation,
  after: number | null,
  content: string,
  answer: Answer | null = null,
): [Conversation, number] {
  const role = answer ? "assistant" : "user";
  return add(before, { after, role, content, answer });
}

function said(conversation: Conversation): string[] {
  return way(conversation).map(({ content }) => content);
}

function talk(): { conversation: Conversation; keys: number[] } {
  let conversation = NOTHING_SAID;
  const keys: number[] = [];
  for (const [index, content] of ["one?", "two", "two?", "three"].entries()) {
    const answer = index % 2 ? DONE : null;
    const [next, key] = say(conversation, keys.at(-1) ?? null, content, answer);
    conversation = next;
    keys.push(key);
  }
  return { conversation, keys };
}

beforeEach(() => sessionStorage.clear());

test("what is said follows what was said", () => {
  expect(said(talk().conversation)).toEqual(["one?", "two", "two?", "three"]);
  expect(said(NOTHING_SAID)).toEqual([]);
});

test("an edited question hides what followed the first one, which is found again with it", () => {
  const { conversation, keys } = talk();
  const [edited, key] = say(conversation, keys[1]!, "three?");
  expect(said(edited)).toEqual(["one?", "two", "three?"]);
  const contents = (turns: readonly Turn[]) => turns.map(({ content }) => content);
  expect(contents(versions(edited, way(edited)[2]!))).toEqual(["two?", "three?"]);
  const back = show(edited, keys[2]!);
  expect(said(back)).toEqual(["one?", "two", "two?", "three"]);
  expect(said(show(back, key))).toEqual(["one?", "two", "three?"]);
});

test("the first question can be edited too", () => {
  const { conversation, keys } = talk();
  const [edited] = say(conversation, null, "three?");
  expect(said(edited)).toEqual(["three?"]);
  expect(said(show(edited, keys[0]!))).toHaveLength(4);
});

test("the model is told what was said up to a question, and nothing said instead", () => {
  const { conversation, keys } = talk();
  const [edited, key] = say({ ...conversation, system: " Count. " }, keys[1]!, "three?");
  expect(messages(edited, key, 0)).toEqual([
    { role: "system", content: "Count." },
    { role: "user", content: "one?" },
    { role: "assistant", content: "two" },
    { role: "user", content: "three?" },
  ]);
});

test("turns that are forgotten are not told, and the system message still is", () => {
  const { conversation, keys } = talk();
  expect(messages({ ...conversation, system: "Count." }, keys[2]!, 2)).toEqual([
    { role: "system", content: "Count." },
    { role: "user", content: "two?" },
  ]);
});

test("a conversation is found again as it was, and an answer under way as stopped", () => {
  const { conversation, keys } = talk();
  const [asked, question] = say(conversation, keys[3]!, "three?");
  const [writing] = say(asked, question, "o", { ...DONE, status: "writing" });
  save("answers", writing);
  const found = load("answers");
  expect(said(found)).toEqual(["one?", "two", "two?", "three", "three?", "o"]);
  expect(way(found).map(({ answer }) => answer?.status ?? "")).toEqual([
    "",
    "stop",
    "",
    "stop",
    "",
    "stopped",
  ]);
  expect(load("another run")).toEqual(NOTHING_SAID);
});

test("what is kept and cannot be read is nothing", () => {
  sessionStorage.setItem("nanogpt_jax.chat answers", "{");
  expect(load("answers")).toEqual(NOTHING_SAID);
});
