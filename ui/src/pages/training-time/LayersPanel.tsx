/** What comes next after one token, as read after each layer of one checkpoint. */
import { percent } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import { type Frame, oddsOf } from "./frame";

interface Props {
  frame: Frame | undefined;
  waiting: boolean;
  vocabulary: Vocabulary;
  position: number;
}

const RANKS = ["Likeliest", "Second", "Third"] as const;

export function LayersPanel({ frame, waiting, vocabulary, position }: Props) {
  const depths = frame?.tokens.shape[0] ?? 0;
  const word = frame ? vocabulary.label(frame.prompt[position]!) : "";
  return (
    <section className="card stack" aria-labelledby="layers" data-step={frame?.step}>
      <h2 id="layers">
        What it expects after <span className="mono">{word}</span>
      </h2>
      <p className="muted small">
        {depths === 1
          ? "This model cannot be read before its end."
          : "If it had to answer before each layer, and at last as it does. Early guesses are rough: only the last row was trained to be right."}
      </p>
      <div
        className={waiting ? "scroll waiting" : "scroll"}
        tabIndex={0}
        role="group"
        aria-label="Expected tokens by layer"
      >
        <table className="layers">
          <thead>
            <tr>
              <th scope="col">
                <span className="unseen">Read</span>
              </th>
              {RANKS.map((rank) => (
                <th key={rank} scope="col">
                  {rank}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {Array.from({ length: depths }, (_, depth) => (
              <tr key={depth}>
                <th scope="row">{depth === depths - 1 ? "at the end" : `before layer ${depth}`}</th>
                {oddsOf(frame!, depth, position)
                  .slice(0, RANKS.length)
                  .map(({ id, logprob }, rank) => (
                    <td key={rank}>
                      <span className="guess" style={{ "--shade": Math.exp(logprob) }}>
                        <span className="mono">{vocabulary.label(id)}</span>
                        <span className="numeric">{percent(Math.exp(logprob))}</span>
                      </span>
                    </td>
                  ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
