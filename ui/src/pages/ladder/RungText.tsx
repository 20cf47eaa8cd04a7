/** The prompt as a rung sees it: how well each token was guessed, and where heads look from one. */
import { useEffect, useMemo } from "react";
import type { Arrays } from "../../api/arrays";
import { FocusStore } from "../../focus";
import { Heatmap } from "../../parts/Heatmap";
import { percent } from "../../parts/Odds";
import { TokenText } from "../../parts/TokenText";
import type { Vocabulary } from "../../text/vocabulary";
import { looksFrom, surenessOf } from "./looking";

/** How high a head's row is, in CSS pixels. */
export const HEAD_PX = 14;

interface GuessedProps {
  ids: readonly number[];
  answer: Arrays;
  vocabulary: Vocabulary;
  store: FocusStore;
  pinned: number | null;
  onPin: (index: number) => void;
}

export function Guessed({ ids, answer, vocabulary, store, pinned, onPin }: GuessedProps) {
  const tokens = useMemo(() => {
    const sure = surenessOf(answer);
    return ids.map((id, index) => ({ id, shade: sure[index]!, given: index === 0 }));
    // `ids` are those of `answer`.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [answer]);
  return (
    <TokenText
      tokens={tokens}
      vocabulary={vocabulary}
      label="The prompt, shaded by the probability of each token"
      store={store}
      side="key"
      pinned={pinned}
      onPin={onPin}
    />
  );
}

interface LooksProps {
  answer: Arrays;
  position: number;
  ids: readonly number[];
  vocabulary: Vocabulary;
  store: FocusStore;
}

/** A row for each head, a column for each token. */
export function LooksView({ answer, position, ids, vocabulary, store }: LooksProps) {
  const looks = useMemo(() => looksFrom(answer, position), [answer, position]);
  const own = useLinked(store);
  return (
    <Heatmap
      matrix={looks}
      colours="sequential"
      range={[0, 1]}
      rowLabels={looks.labels}
      tallest={HEAD_PX}
      label={`Where each of ${looks.rows} heads looks from token ${position}`}
      describe={(row, column) =>
        `head ${looks.labels[row]} at ${vocabulary.label(ids[column] ?? 0)}: ` +
        percent(looks.values[row * looks.columns + column]!)
      }
      store={own}
    />
  );
}

/** A focus of one's own, whose column is that of `shared`. */
function useLinked(shared: FocusStore): FocusStore {
  const own = useMemo(() => new FocusStore(), []);
  useEffect(() => {
    const there = own.listen(({ key }) => shared.set({ query: null, key }));
    const back = shared.listen(({ key }) => {
      if (own.get().key !== key) own.set({ query: null, key });
    });
    return () => {
      there();
      back();
    };
  }, [own, shared]);
  return own;
}
