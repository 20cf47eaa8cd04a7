/** How surprising each token of the prompt was to every checkpoint: when which was learned. */
import { useEffect, useMemo, useRef } from "react";
import { FocusStore } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { Heatmap, type Matrix } from "../../parts/Heatmap";
import { TableAlternative } from "../../parts/Table";
import { choose } from "../../place";
import type { Vocabulary } from "../../text/vocabulary";
import type { Frame } from "./frame";

interface Props {
  name: string;
  prompt: readonly number[];
  steps: readonly number[];
  step: number;
  frames: ReadonlyMap<number, Frame>;
  vocabulary: Vocabulary;
  /** The focus of the text, whose tokens are rows here. */
  store: FocusStore;
  position: number;
}

const MOST_PX = 460;

/** Losses in nats, a row for each token and a column for each step; NaN where none is known. */
export function lossesOf(
  length: number,
  steps: readonly number[],
  frames: ReadonlyMap<number, Frame>,
): Matrix {
  const values = new Float32Array(length * steps.length).fill(NaN);
  steps.forEach((step, column) => {
    const frame = frames.get(step);
    // The first token is given, not predicted.
    for (let row = 1; frame && row < length; row++) {
      values[row * steps.length + column] = frame.nats[row - 1] ?? NaN;
    }
  });
  return { values, rows: length, columns: steps.length };
}

export function LearnedPanel(props: Props) {
  const { name, prompt, steps, step, frames, vocabulary, store, position } = props;
  const drawing = useRef<Drawing>(null);
  const matrix = useMemo(() => lossesOf(prompt.length, steps, frames), [prompt, steps, frames]);
  const labels = useMemo(() => prompt.map((id) => vocabulary.label(id)), [prompt, vocabulary]);
  const columns = useMemo(() => steps.map(String), [steps]);
  // Columns are steps here and tokens elsewhere: only rows are linked.
  const own = useMemo(() => new FocusStore(), []);
  useEffect(() => own.listen(({ query }) => store.set({ query, key: null })), [own, store]);
  const nats = (row: number, column: number) => matrix.values[row * steps.length + column]!;
  return (
    <section className="card stack" aria-labelledby="learned">
      <div className="row">
        <h2 id="learned">When it learned each token</h2>
        <span className="end">
          <Export
            name={`${name}-losses`}
            drawing={drawing}
            json={() => ({ tokens: labels, steps, nats: matrix })}
          />
        </span>
      </div>
      <p className="muted small">
        A row for each token of the prompt, a column for each checkpoint. Strong colour: the token
        was a surprise to it (up to {Math.log(vocabulary.size).toFixed(1)} nats, as if all tokens
        were alike). A row that fades is being learned.
      </p>
      <Heatmap
        matrix={matrix}
        colours="sequential"
        range={[0, Math.log(vocabulary.size)]}
        rowLabels={labels}
        columnLabels={columns}
        tallest={Math.min(26, MOST_PX / prompt.length)}
        label="Loss of each token of the prompt at each checkpoint"
        describe={(row, column) =>
          row === 0
            ? `${labels[row]}, given`
            : `${labels[row]} at step ${steps[column]}: ${nats(row, column).toFixed(2)} nats`
        }
        store={own}
        pinned={{ query: position, key: steps.indexOf(step) }}
        onPin={(row, column) => choose({ pin: row, "step-at": steps[column]! })}
        drawing={drawing}
      />
      <TableAlternative
        caption="Loss of each token of the prompt at each checkpoint, in nats"
        columns={["token", ...columns]}
        rows={() =>
          labels.slice(1).map((label, row) => [
            label,
            ...steps.map((_, column) => {
              const value = nats(row + 1, column);
              return Number.isNaN(value) ? "–" : value.toFixed(2);
            }),
          ])
        }
      />
    </section>
  );
}
