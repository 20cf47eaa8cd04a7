/** Words that could come next, each with a bar before and a bar after; the bars move. */
import { percent } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import type { Known } from "./reading";
import type { Pair } from "./paired";

interface Props {
  pairs: readonly Pair[];
  vocabulary: Vocabulary;
  /** What the two bars stand for. */
  names: readonly [string, string];
  chosen?: number;
  onChoose?: (id: number) => void;
}

/** A share that is only known to be smaller says so. */
export function written({ share, exact }: Known): string {
  const text = percent(share);
  return exact || text.startsWith("<") ? text : `< ${text}`;
}

export function PairedOdds({ pairs, vocabulary, names, chosen, onChoose }: Props) {
  return (
    <div className="stack tight">
      <p className="pair-key small muted" aria-hidden>
        <span>
          <span className="dot before" /> {names[0]}
        </span>
        <span>
          <span className="dot after" /> {names[1]}
        </span>
      </p>
      <ol className="pairs">
        {pairs.map(({ id, before, after }) => {
          const word = vocabulary.label(id);
          const row = (
            <>
              <span className="word">{word}</span>
              <span className="two" aria-hidden>
                <span className="bar before" style={{ "--share": barOf(before) }} />
                <span className="bar after" style={{ "--share": barOf(after) }} />
              </span>
              <span className="number muted">
                <span className="unseen">{names[0]} </span>
                {written(before)}
              </span>
              <span className="number">
                <span className="unseen">{names[1]} </span>
                {written(after)}
              </span>
            </>
          );
          return (
            <li key={id}>
              {onChoose ? (
                <button type="button" aria-pressed={id === chosen} onClick={() => onChoose(id)}>
                  {row}
                </button>
              ) : (
                <div>{row}</div>
              )}
            </li>
          );
        })}
      </ol>
    </div>
  );
}

function barOf({ share, exact }: Known): number {
  return exact ? share : 0;
}
