/** One head, large: the text shaded by what is looked at, arcs over it, and every look as a picture. */
import { useCallback, useMemo, useRef } from "react";
import type { Subject } from "../../api/queries";
import type { Focus, FocusStore } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { Heatmap } from "../../parts/Heatmap";
import { percent } from "../../parts/Odds";
import { TableAlternative } from "../../parts/Table";
import { Arcs } from "./Arcs";
import type { Chosen } from "./chosen";
import { headName, type Looks, shadeOf, strongest } from "./looks";
import { ShadedText } from "./ShadedText";
import { Shades } from "./Shades";
import { Strongest } from "./Strongest";

const MOST_CELL_PX = 56;

interface Props {
  subject: Subject;
  looks: Looks;
  tokens: readonly number[];
  chosen: Chosen;
  store: FocusStore;
  onPin: (query: number, key?: number) => void;
}

export function HeadView({ subject, looks, tokens, chosen, store, onPin }: Props) {
  const { vocabulary, run } = subject;
  const { layer, head, pin, pinKey } = chosen;
  const { length } = looks;
  const picture = useRef<Drawing>(null);
  const line = useRef<Drawing>(null);
  const weights = looks.weights(layer, head);
  const labels = useMemo(() => tokens.map((id) => vocabulary.label(id)), [tokens, vocabulary]);
  const texts = useMemo(
    () => tokens.map((id) => vocabulary.shown(id).text.replace(/\n/g, "")),
    [tokens, vocabulary],
  );
  const matrix = useMemo(
    () => ({
      values: weights.map((weight) => shadeOf(weight, looks.top)),
      rows: length,
      columns: length,
    }),
    [weights, length, looks.top],
  );
  const row = useCallback((query: number) => looks.row(layer, head, query), [looks, layer, head]);
  const column = (key: number) => looks.column(layer, head, key);
  const shown = useCallback(
    ({ query, key }: Focus) =>
      query !== null && query < length ? { query, key } : { query: pin ?? length - 1, key: pinKey },
    [pin, pinKey, length],
  );
  const pinned = useMemo(() => ({ query: pin, key: pinKey }), [pin, pinKey]);
  const name = `${run.name.replace(/\W+/g, "-")}-layer-${layer}-${String(head)}`;
  const json = () => ({
    run: run.name,
    step: subject.step ?? run.served_step,
    layer,
    head,
    first_token_left_out: chosen.leaveOutFirst,
    tokens: tokens.map((id, at) => ({ id, text: labels[at] })),
    weights: tokens.map((_, query) => row(query)),
  });
  const lists = { store, shown, labels, top: looks.top };
  const title = `Layer ${layer}, ${headName(head)}`;
  const summary = typeof head === "number" ? looks.summary(layer, head) : null;

  return (
    <section className="stack head" aria-labelledby="head-title">
      <div className="row">
        <h2 id="head-title">{title}</h2>
        {summary && (
          <span className="muted small numeric">
            entropy {summary.entropyBits.toFixed(1)} bits, distance{" "}
            {summary.distanceTokens.toFixed(1)} tokens, {percent(summary.first)} on the first token
          </span>
        )}
      </div>
      <div className="stack tight">
        <p className="muted small">
          The underlined token looks; the shades show at what. Point at another token to let it
          look, press it to keep it, Escape lets go.
        </p>
        <ShadedText
          tokens={tokens}
          vocabulary={vocabulary}
          label="The text, shaded by where the chosen token looks"
          store={store}
          shown={shown}
          row={row}
          top={looks.top}
          pinned={pin}
          onPin={onPin}
        />
      </div>
      <div className="stack tight">
        <div className="row">
          <p className="muted small">The same as arcs: the thicker, the more is taken.</p>
          <span className="end">
            <Export name={`${name}-arcs`} drawing={line} json={json} />
          </span>
        </div>
        <Arcs
          texts={texts}
          row={row}
          top={looks.top}
          shown={shown}
          store={store}
          onPin={onPin}
          label={`${title}: arcs over the text`}
          drawing={line}
        />
      </div>
      <div className="row">
        <p className="muted small">
          All tokens at once: a row for each token that looks, a column for each it may look at.
        </p>
        <span className="end">
          <Export name={name} drawing={picture} json={json} />
        </span>
      </div>
      <div className="large">
        <div style={{ maxWidth: 96 + length * MOST_CELL_PX }}>
          <Heatmap
            matrix={matrix}
            colours="sequential"
            range={[0, 1]}
            causal
            rowLabels={labels}
            columnLabels={labels}
            label={`${title}: where each token looks`}
            describe={(query, key) =>
              `${labels[query]} looks at ${labels[key]} with ${percent(weights[query * length + key]!)}`
            }
            store={store}
            pinned={pinned}
            onPin={onPin}
            drawing={picture}
          />
        </div>
        <div className="stack">
          <Strongest {...lists} weights={row} link="looks at" count={8} />
          <Strongest {...lists} weights={column} link="is looked at by" count={4} />
          <Shades top={looks.top} />
        </div>
      </div>
      <TableAlternative
        caption={`${title}: what each token looks at most`}
        columns={["token", "first", "second", "third"]}
        rows={() =>
          labels.map((label, query) => [
            `${query} ${label}`,
            ...strongest(row(query), 3).map((key) => `${labels[key]} ${percent(row(query)[key]!)}`),
          ])
        }
      />
    </section>
  );
}
