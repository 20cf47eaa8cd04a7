/** The conversation as the model has it: one text, in which special tokens say who speaks. */
import { useMemo } from "react";
import { FocusStore } from "../../focus";
import { TokenText } from "../../parts/TokenText";
import type { Vocabulary } from "../../text/vocabulary";
import type { Written } from "../prompt/writing";

interface Props {
  read: readonly number[];
  written: readonly Written[];
  vocabulary: Vocabulary;
}

export function Reads({ read, written, vocabulary }: Props) {
  const store = useMemo(() => new FocusStore(), []);
  const tokens = [
    ...read.map((id) => ({ id, given: true })),
    ...written.map(({ id, logprob }) => ({ id, shade: Math.exp(logprob) })),
  ];
  return (
    <details className="reads">
      <summary>What the model reads</summary>
      <TokenText
        tokens={tokens}
        vocabulary={vocabulary}
        label="The conversation as tokens"
        store={store}
      />
    </details>
  );
}
