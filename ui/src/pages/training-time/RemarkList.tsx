/** What to watch for: sentences about this film, each leading to where it happens. */
import type { Remark } from "./remarks";

interface Props {
  /** null: not everything has been read. */
  remarks: readonly Remark[] | null;
  step: number;
}

/** As in a film: the sentence about what has just happened, or else what is to come. */
export function Subtitle({ remarks, step, read, count }: Props & { read: number; count: number }) {
  const past = remarks?.findLast((remark) => remark.step <= step);
  const told = past ?? remarks?.[0];
  // The first of several at the same step.
  const first = told && remarks?.find((remark) => remark.step === told.step);
  return (
    <p className="subtitle">
      {remarks ? first?.text : `Reading the checkpoints, nearest first: ${read} of ${count}.`}
    </p>
  );
}

export function RemarkList({ remarks, step, go }: Props & { go: (step: number) => void }) {
  return (
    <section className="card stack tight remarks" aria-labelledby="remarks">
      <h2 id="remarks">What to watch for</h2>
      {remarks ? (
        <ol>
          {remarks.map((remark) => (
            <li key={remark.text}>
              <button
                type="button"
                aria-current={remark.step === step ? "step" : undefined}
                onClick={() => go(remark.step)}
              >
                <span className="numeric">step {remark.step}</span>
                <span>{remark.text}</span>
              </button>
            </li>
          ))}
        </ol>
      ) : (
        <p className="muted">Told when every checkpoint has been read.</p>
      )}
    </section>
  );
}
