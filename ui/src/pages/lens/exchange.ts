/** A text in which tokens are exchanged for others of their kind, so that it has as many as before. */
import { type Arrays, field } from "../../api/arrays";
import { inspectKept, type Question } from "../../api/queries";
import type { Vocabulary } from "../../text/vocabulary";
import { ALTERNATIVES, oddsAt, shareIn, tokensOf } from "./reading";

export interface Exchange {
  readonly position: number;
  readonly id: number;
}

/** `10.369,3.262`: as the address holds them; the first token of a text is never exchanged. */
export function parseExchanges(text: string, positions: number, size: number): Exchange[] {
  return text.split(",").flatMap((each) => {
    const [position, id] = each.split(".").map(Number);
    const there = Number.isInteger(position) && Number.isInteger(id);
    return there && position! > 0 && position! < positions && id! >= 0 && id! < size
      ? [{ position: position!, id: id! }]
      : [];
  });
}

/** Those that leave no trace, because a token is exchanged for itself, are not written. */
export function formatExchanges(clean: readonly number[], other: readonly number[]): string {
  return other.flatMap((id, at) => (id === clean[at] ? [] : [`${at}.${id}`])).join(",");
}

export function exchanged(clean: readonly number[], exchanges: readonly Exchange[]): number[] {
  const tokens = [...clean];
  for (const { position, id } of exchanges) tokens[position] = id;
  return tokens;
}

/** What sort of token a text is: of one sort are names, words, pieces of words, figures, signs. */
export function kindOf(text: string): string {
  const space = /^\s/.test(text) ? "begins " : "";
  const rest = text.trim();
  if (/^\p{Lu}\p{L}+$/u.test(rest)) return `${space}name`;
  if (/^\p{L}{3,}$/u.test(rest)) return `${space}word`;
  if (/^\p{L}+$/u.test(rest)) return `${space}letters`;
  if (/^\d+$/.test(rest)) return `${space}figures`;
  return "sign";
}

/** Names tell most about what comes later, then whole words. */
const BEST_KINDS = ["begins name", "begins word", "name", "word"];
const MOST_TRIED = 6;
/** An alternative that the model holds for less likely would be no text of this corpus. */
const LEAST_LIKELY = 0.01;

/** Exchanges worth trying, the best first: one for each position, likely there and of its kind. */
export function candidates(answer: Arrays, vocabulary: Vocabulary): Exchange[] {
  const tokens = tokensOf(answer);
  const textOf = (id: number) => (vocabulary.isSpecial(id) ? "" : vocabulary.decode([id]));
  const found: (Exchange & { rank: number })[] = [];
  for (let position = 1; position < tokens.length; position++) {
    const kind = kindOf(textOf(tokens[position]!));
    const other = oddsAt(answer, position - 1).find(
      ({ id, logprob }) =>
        id !== tokens[position] &&
        Math.exp(logprob) >= LEAST_LIKELY &&
        textOf(id) !== "" &&
        kindOf(textOf(id)) === kind,
    );
    const rank = BEST_KINDS.indexOf(kind);
    if (other) found.push({ position, id: other.id, rank: rank < 0 ? BEST_KINDS.length : rank });
  }
  return found
    .sort((a, b) => a.rank - b.rank || a.position - b.position)
    .slice(0, MOST_TRIED)
    .map(({ position, id }) => ({ position, id }));
}

/** An exchange, and where what it changes most is said: `answer` after the token at `end`. */
export interface Suggestion {
  readonly exchange: Exchange;
  readonly end: number;
  readonly answer: number;
  /** How much of the answer's probability is lost, weighed by how likely it was. */
  readonly weight: number;
}

/** The place after an exchange where an answer that was likely becomes unlikely. Right after the
 * exchanged token any model notices; later ones show what it remembers, so those are preferred.
 */
export function strongest(clean: Arrays, other: Arrays, exchange: Exchange): Suggestion | null {
  const tokens = tokensOf(clean);
  const [was, is] = [field(clean, "nats").data, field(other, "nats").data];
  const last = tokens.length - 1;
  let best: Suggestion | null = null;
  for (let end = Math.min(exchange.position + 1, last); end <= last; end++) {
    const likeliest = oddsAt(clean, end)[0]!;
    const answer = end === last ? likeliest.id : tokens[end + 1]!;
    const before = end === last ? likeliest.logprob : -was[end]!;
    const after = end === last ? Math.log(shareIn(oddsAt(other, end), answer).share) : -is[end]!;
    const weight = Math.exp(before) * (before - after);
    if (!best || weight > best.weight) best = { exchange, end, answer, weight };
  }
  return best;
}

/** An exchange that changes so much is shown, and no further kind of token is tried. */
const ENOUGH = 0.15;

/** Tries exchanges and gives the one that changes most of the best kind of token that changes enough;
 * null where there is nothing to exchange.
 */
export async function suggest(
  about: Question,
  clean: Arrays,
  vocabulary: Vocabulary,
  signal: AbortSignal,
): Promise<{ found: Suggestion | null }> {
  const tokens = tokensOf(clean);
  const kindAt = ({ position }: Exchange) => kindOf(vocabulary.decode([tokens[position]!]));
  let found: Suggestion | null = null;
  let kind = "";
  for (const exchange of candidates(clean, vocabulary)) {
    if (found && found.weight > ENOUGH && kindAt(exchange) !== kind) break;
    kind = kindAt(exchange);
    const prompt = exchanged(tokens, [exchange]);
    const question = { ...about, prompt, alternatives: ALTERNATIVES };
    const other = await inspectKept("tokens", question, signal);
    const tried = strongest(clean, other, exchange);
    if (tried && (!found || tried.weight > found.weight)) found = tried;
  }
  return { found };
}
