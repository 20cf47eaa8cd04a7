/** The text as tokens, shaded by how much more of a surprise each is with parts switched off. */
import { useEffect, useState } from "react";
import { type Arrays, field } from "../../api/arrays";
import type { FocusStore } from "../../focus";
import { TokenText } from "../../parts/TokenText";
import type { Vocabulary } from "../../text/vocabulary";
import { signed } from "./harm";

interface Props {
  before: Arrays;
  after: Arrays;
  tokens: readonly number[];
  vocabulary: Vocabulary;
  position: number;
  onPosition: (position: number) => void;
  store: FocusStore;
}

/** A token that needs so many bits more has the full colour. */
const FULL_BITS = 4;

/** The surprise of a token; the first has none, for nothing comes before it. */
function bitsOf(arrays: Arrays, position: number): number {
  return position === 0 ? NaN : field(arrays, "nats").data[position - 1]! / Math.LN2;
}

function meanBits(arrays: Arrays): number {
  const nats = [...field(arrays, "nats").data];
  return nats.reduce((sum, each) => sum + each, 0) / nats.length / Math.LN2;
}

export function WholeText(props: Props) {
  const { before, after, tokens, vocabulary, position, onPosition, store } = props;
  const [hovered, setHovered] = useState<number | null>(null);
  useEffect(() => store.listen(({ query }) => setHovered(query)), [store]);
  const told = hovered !== null && hovered > 0 && hovered < tokens.length ? hovered : null;
  const changes = tokens.map((_, index) => bitsOf(after, index) - bitsOf(before, index));
  return (
    <section className="stack tight" aria-label="The text">
      <h2>The whole text</h2>
      <p className="muted small">
        Blue tokens surprise the model more than with all parts on, orange ones less. Press one to
        see what could come after it.
      </p>
      <TokenText
        tokens={tokens.map((id, index) => {
          const change = changes[index]!;
          const shade = Math.min(Math.abs(change) / FULL_BITS, 1) || 0;
          return { id, shade, other: change < 0 };
        })}
        vocabulary={vocabulary}
        label="The text, shaded by how much more of a surprise each token is"
        store={store}
        pinned={position}
        onPin={onPosition}
      />
      <p className="small numeric told-line">
        {told === null ? (
          <>
            <span className="muted">whole text: </span>
            {meanBits(before).toFixed(2)} → {meanBits(after).toFixed(2)} bits of surprise a token
          </>
        ) : (
          <>
            <span className="mono">{vocabulary.label(tokens[told]!)}</span>:{" "}
            {bitsOf(before, told).toFixed(2)} → {bitsOf(after, told).toFixed(2)} bits of surprise (
            {signed(changes[told]!)})
          </>
        )}
      </p>
    </section>
  );
}
