/** Where one head looks, at one checkpoint, large. */
import { useMemo, useRef } from "react";
import type { FocusStore } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { Select } from "../../parts/Field";
import { Heatmap } from "../../parts/Heatmap";
import { percent } from "../../parts/Odds";
import { TableAlternative } from "../../parts/Table";
import { choose } from "../../place";
import type { Vocabulary } from "../../text/vocabulary";
import { type Frame, lookOf, shadesOf } from "./frame";

interface Props {
  name: string;
  frame: Frame | undefined;
  waiting: boolean;
  layer: number;
  head: number;
  layers: number;
  heads: number;
  vocabulary: Vocabulary;
  store: FocusStore;
  position: number;
}

function choices(count: number): (readonly [string, string])[] {
  return Array.from({ length: count }, (_, index) => [String(index), String(index)]);
}

export function LookPanel(props: Props) {
  const { name, frame, waiting, layer, head, layers, heads, vocabulary, store, position } = props;
  const drawing = useRef<Drawing>(null);
  const matrix = useMemo(() => (frame ? lookOf(frame, layer, head) : null), [frame, layer, head]);
  const shades = useMemo(() => matrix && shadesOf(matrix), [matrix]);
  const ids = frame?.prompt.join(" ") ?? "";
  const labels = useMemo(
    () => (ids ? ids.split(" ").map((id) => vocabulary.label(Number(id))) : []),
    [ids, vocabulary],
  );
  const share = (row: number, column: number) => matrix!.values[row * matrix!.columns + column]!;
  return (
    <section className="card stack" aria-labelledby="look" data-step={frame?.step}>
      <div className="row">
        <h2 id="look">Where it looks</h2>
        <span className="row end">
          <span className="place">
            <Select
              label="Layer"
              value={String(layer)}
              options={choices(layers)}
              onChange={(layer) => choose({ layer })}
            />
            <Select
              label="Head"
              value={String(head)}
              options={choices(heads)}
              onChange={(head) => choose({ head })}
            />
          </span>
          <Export
            name={`${name}-attention-${layer}-${head}-step-${frame?.step}`}
            drawing={drawing}
            json={() => ({ step: frame?.step, layer, head, tokens: labels, attention: matrix })}
          />
        </span>
      </div>
      <p className="muted small">
        Each row is a token that looks back at those before it; the stronger a cell, the more of its
        attention goes there. Each row sums to 100 %.
      </p>
      <div className={waiting ? "look waiting" : "look"}>
        {shades && (
          <Heatmap
            matrix={shades}
            colours="sequential"
            range={[0, 1]}
            causal
            rowLabels={labels}
            columnLabels={labels}
            label={`Attention of head ${head} in layer ${layer} at step ${frame!.step}`}
            describe={(row, column) =>
              `${labels[row]} looks at ${labels[column]} with ${percent(share(row, column))}`
            }
            store={store}
            pinned={{ query: position, key: null }}
            onPin={(row) => choose({ pin: row })}
            drawing={drawing}
          />
        )}
      </div>
      {matrix && (
        <TableAlternative
          caption={`Attention of head ${head} in layer ${layer}`}
          columns={["token", "looks most at", "with", "at itself"]}
          rows={() =>
            labels.map((label, row) => {
              const row_ = Array.from({ length: row + 1 }, (_, column) => share(row, column));
              const most = row_.indexOf(Math.max(...row_));
              return [label, labels[most], percent(row_[most]!), percent(row_[row]!)];
            })
          }
        />
      )}
    </section>
  );
}
