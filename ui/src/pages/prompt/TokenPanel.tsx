/** One token in full: what it is, how likely it was, and what could have stood in its place. */
import type { Vocabulary } from "../../text/vocabulary";
import { Odds, percent } from "../../parts/Odds";
import type { Written } from "./writing";

interface Props {
  token: Written | undefined;
  index: number;
  vocabulary: Vocabulary;
  onBranch: (id: number) => void;
}

export function TokenPanel({ token, index, vocabulary, onBranch }: Props) {
  if (!token) {
    return (
      <aside className="stack panel" aria-label="Token">
        <h2>Token</h2>
        <p className="muted">
          Point at a token of the continuation to see what else the model could have written there.
          Press it to keep it here.
        </p>
      </aside>
    );
  }
  return (
    <aside className="stack panel" aria-label="Token">
      <h2 className="mono">{vocabulary.label(token.id)}</h2>
      <dl className="facts">
        <dt>probability</dt>
        <dd>{percent(Math.exp(token.logprob))}</dd>
        <dt>surprise</dt>
        <dd>{(-token.logprob / Math.LN2).toFixed(2)} bits</dd>
        <dt>id</dt>
        <dd>{token.id}</dd>
        <dt>bytes</dt>
        <dd className="mono">{vocabulary.hex(token.id) || "none"}</dd>
        <dt>place</dt>
        <dd>{index + 1}. of the continuation</dd>
      </dl>
      <h3>In its place</h3>
      <Odds
        odds={token.alternatives}
        vocabulary={vocabulary}
        chosen={token.id}
        onChoose={onBranch}
        action="Go on with"
      />
      <p className="muted small">
        Press one to go on from there. Probabilities are the model’s own, before temperature and
        filters.
      </p>
    </aside>
  );
}
