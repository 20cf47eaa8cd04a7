/** The answer that is followed, among those that come after the one text and after the other. */
import type { Odd } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import { shareIn } from "./reading";
import { paired } from "./paired";
import { PairedOdds, written } from "./PairedOdds";

interface Props {
  first: readonly Odd[];
  second: readonly Odd[];
  after: number;
  vocabulary: Vocabulary;
  answer: number;
  onAnswer: (id: number) => void;
}

const LISTED = 7;

export function Answers({ first, second, after, vocabulary, answer, onAnswer }: Props) {
  const word = <span className="mono">{vocabulary.label(answer)}</span>;
  const pairs = paired(first, second, LISTED);
  if (!pairs.some(({ id }) => id === answer)) {
    pairs.push({ id: answer, before: shareIn(first, answer), after: shareIn(second, answer) });
  }
  return (
    <aside className="stack" aria-label="The answer">
      <div className="stack tight">
        <h2>Where does {word} come from?</h2>
        <p className="muted small">
          After <span className="mono">{vocabulary.label(after)}</span> it has{" "}
          {written(shareIn(first, answer))} in the first text and {written(shareIn(second, answer))}{" "}
          in the second. The maps show which states of the first text bring it back.
        </p>
      </div>
      <div className="stack tight">
        <h3>Follow another answer</h3>
        <PairedOdds
          pairs={pairs}
          vocabulary={vocabulary}
          names={["first text", "second text"]}
          chosen={answer}
          onChoose={onAnswer}
        />
      </div>
    </aside>
  );
}
