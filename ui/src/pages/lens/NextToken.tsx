/** What could come next, with all parts on and with some of them off. */
import type { Arrays } from "../../api/arrays";
import { percent } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import { moved, paired } from "./paired";
import { PairedOdds } from "./PairedOdds";
import { oddsAt } from "./reading";

interface Props {
  before: Arrays;
  after: Arrays;
  /** The token that it comes after, and its place. */
  token: number;
  position: number;
  vocabulary: Vocabulary;
  /** Whether `after` is still awaited and `before` stands for it. */
  waiting: boolean;
}

const LISTED = 8;

export function NextToken({ before, after, token, position, vocabulary, waiting }: Props) {
  const [was, is] = [oddsAt(before, position), oddsAt(after, position)];
  const told =
    before === after
      ? "Nothing is off, so both are the same."
      : `${percent(moved(was, is))} of the probability went to other words.`;
  return (
    <section className="stack tight" aria-label="Next token">
      <h2>
        After <span className="mono">{vocabulary.label(token)}</span>
      </h2>
      <p className="muted small" aria-live="polite">
        {waiting ? "Looking…" : told}
      </p>
      <PairedOdds
        pairs={paired(was, is, LISTED)}
        vocabulary={vocabulary}
        names={["all on", "with these off"]}
      />
    </section>
  );
}
