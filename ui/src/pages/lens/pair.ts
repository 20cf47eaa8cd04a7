/** The two texts of a patching, as the address has them: the second is typed, or is the first with
 * tokens exchanged, or, while nothing is chosen, the first with the exchange that is suggested.
 */
import { useMemo } from "react";
import type { Arrays } from "../../api/arrays";
import type { Problem } from "../../api/client";
import { type Question, type Subject, useInspection } from "../../api/queries";
import { useResource } from "../../api/resource";
import { usePrompt } from "../../parts/PromptBar";
import { useNumber, useValue } from "../../place";
import { exchanged, parseExchanges, suggest, type Suggestion } from "./exchange";
import { ALTERNATIVES, asked, oddsAt, tokensOf } from "./reading";

export interface TextPair {
  readonly clean: readonly number[];
  readonly other: readonly number[];
  /** What the model says after each token of the first text, and of the second. */
  readonly first: Arrays | undefined;
  readonly second: Arrays | undefined;
  /** Whether both are what the address names now. */
  readonly settled: boolean;
  readonly problem: Problem | null;
  /** Stands as long as nothing else was chosen. */
  readonly suggestion: Suggestion | null;
  /** Whether a suggestion is shown or sought. */
  readonly suggesting: boolean;
  /** The last token that is read; the answer comes after it. */
  readonly end: number;
  readonly answer: number | null;
}

export function useTextPair(subject: Subject, able: boolean, again: number): TextPair {
  const { run, vocabulary } = subject;
  const prompt = usePrompt(run);
  const [typed] = useValue("corrupted");
  const [chosen] = useValue("exchange");
  const about = useMemo(() => asked(subject), [subject]);
  const ask = (prompt: string | readonly number[] | null): Question | null =>
    able && prompt?.length ? { ...about, prompt, alternatives: ALTERNATIVES } : null;

  const first = useInspection("tokens", ask(prompt), again);
  const clean = useMemo(() => (first.value ? tokensOf(first.value) : []), [first.value]);
  const suggesting = typed === "" && chosen === "";
  const suggested = useResource(
    suggesting && first.value && first.fresh
      ? `exchange ${JSON.stringify(about)} ${clean.join()}`
      : null,
    (signal) => suggest(about, first.value!, vocabulary, signal),
    again,
  );
  const found = suggested.fresh ? suggested.value : undefined;
  const suggestion = suggesting ? (found?.found ?? null) : null;
  const exchanges = suggestion
    ? [suggestion.exchange]
    : parseExchanges(chosen, clean.length, vocabulary.size);

  const same = typed === "" && exchanges.length === 0;
  const asking = same ? null : ask(typed || exchanged(clean, exchanges));
  const told = useInspection("tokens", asking, again);
  const second = same ? first : told;
  const other = useMemo(() => (second.value ? tokensOf(second.value) : []), [second.value]);

  const [wantedEnd] = useNumber("end", suggestion?.end ?? clean.length - 1);
  const end = Math.min(Math.max(Math.round(wantedEnd), 0), clean.length - 1);
  const likeliest = first.value && end >= 0 ? oddsAt(first.value, end)[0]!.id : null;
  const usual = suggestion && suggestion.end === end ? suggestion.answer : likeliest;
  const [wantedAnswer] = useNumber("answer", -1);
  const named = wantedAnswer >= 0 && wantedAnswer < vocabulary.size;
  return {
    clean,
    other,
    first: first.value,
    second: second.value,
    settled:
      first.fresh &&
      second.fresh &&
      Boolean(first.value && second.value) &&
      (!suggesting || found !== undefined),
    problem: first.problem ?? suggested.problem ?? second.problem,
    suggestion,
    suggesting,
    end,
    answer: named ? wantedAnswer : usual,
  };
}
