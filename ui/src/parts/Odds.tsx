/** Tokens that could come next, with their probabilities; each may be a choice. */
import type { Vocabulary } from "../text/vocabulary";

export interface Odd {
  readonly id: number;
  /** Natural logarithm of the probability. */
  readonly logprob: number;
}

interface Props {
  odds: readonly Odd[];
  vocabulary: Vocabulary;
  chosen?: number | undefined;
  onChoose?: ((id: number) => void) | undefined;
  action?: string;
}

export function percent(probability: number): string {
  if (probability >= 0.9995 && probability < 1) return "> 99.9 %";
  if (probability > 0 && probability < 0.0005) return "< 0.1 %";
  return `${(100 * probability).toFixed(1)} %`;
}

export function Odds({ odds, vocabulary, chosen, onChoose, action = "Take" }: Props) {
  return (
    <ol className="odds">
      {odds.map(({ id, logprob }) => {
        const share = Math.exp(logprob);
        const word = vocabulary.label(id);
        const row = (
          <>
            <span className="word">{word}</span>
            <span className="bar" style={{ "--share": share }} />
            <span className="number">{percent(share)}</span>
          </>
        );
        return (
          <li key={id} className={id === chosen ? "chosen" : undefined}>
            {onChoose && id !== chosen ? (
              <button type="button" onClick={() => onChoose(id)}>
                <span className="unseen">{action} </span>
                {row}
              </button>
            ) : (
              <div>{row}</div>
            )}
          </li>
        );
      })}
    </ol>
  );
}
