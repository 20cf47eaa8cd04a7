/** What each state of the first text brings back, by layer and token, and by layer and head. */
import { useEffect, useMemo, useRef, useState } from "react";
import { type Focus, FocusStore, NOWHERE } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { Heatmap, type Matrix } from "../../parts/Heatmap";
import { TableAlternative } from "../../parts/Table";
import type { Vocabulary } from "../../text/vocabulary";
import { largest, recovered, type Recovery } from "./recovery";
import { Ramp } from "./Ramp";
import { SITES, type Site } from "./sites";

interface Props {
  recovery: Recovery;
  site: Site;
  tokens: readonly number[];
  vocabulary: Vocabulary;
  /** Shared with the texts: its key is a position. */
  store: FocusStore;
  /** What exported files are called, and the numbers in them. */
  name: string;
  json: () => unknown;
}

const RANGE = [-1, 1] as const;

export function PatchMaps({ recovery, site, tokens, vocabulary, store, name, json }: Props) {
  const { byPosition, byHead } = recovery;
  const heads = useMemo(() => new FocusStore(), []);
  const words = useMemo(() => tokens.map((id) => vocabulary.label(id)), [tokens, vocabulary]);
  const layers = useMemo(
    () => Array.from({ length: byHead.rows }, (_, layer) => `layer ${layer}`),
    [byHead.rows],
  );
  const names = useMemo(
    () => Array.from({ length: byHead.columns }, (_, head) => `head ${head}`),
    [byHead.columns],
  );
  const atToken = (row: number, column: number) =>
    `${SITES[site].of} layer ${row} at ${words[column]}`;
  const ofHead = (row: number, column: number) => `head ${column} of layer ${row}`;
  return (
    <>
      <Ramp colours="diverging" names={["further away", "nothing comes back", "all of it"]} />
      <section className="stack tight" aria-label="By layer and token">
        <RecoveryMap
          matrix={byPosition}
          label="Share of the answer that comes back, by layer and token"
          rows={layers}
          columns={words}
          describe={atToken}
          store={store}
          title="By layer and token"
          sentence={SITES[site].sentence}
          name={`${name}-tokens`}
          json={json}
        />
      </section>
      <section className="stack tight by-head" aria-label="By layer and head">
        <RecoveryMap
          matrix={byHead}
          label="Share of the answer that comes back, by layer and head"
          rows={layers}
          columns={names}
          describe={ofHead}
          store={heads}
          title="By layer and head"
          sentence="Each cell: what one attention head adds, taken from the first text at all tokens."
          name={`${name}-heads`}
          json={json}
        />
      </section>
    </>
  );
}

interface MapProps {
  matrix: Matrix;
  label: string;
  rows: readonly string[];
  columns: readonly string[];
  describe: (row: number, column: number) => string;
  store: FocusStore;
  title: string;
  sentence: string;
  name: string;
  json: () => unknown;
}

function RecoveryMap(props: MapProps) {
  const { matrix, label, rows, columns, describe, store, title, sentence, name, json } = props;
  const drawing = useRef<Drawing>(null);
  const [focus, setFocus] = useState<Focus>(NOWHERE);
  useEffect(() => store.listen(setFocus), [store]);
  const { query, key } = focus;
  const here = query !== null && key !== null && query < matrix.rows && key < matrix.columns;
  const [row, column] = here ? [query, key] : largest(matrix);
  const shareAt = (row: number, column: number) => matrix.values[row * matrix.columns + column]!;
  const told = (row: number, column: number) =>
    `${describe(row, column)}: ${recovered(shareAt(row, column))}`;
  return (
    <>
      <div className="row">
        <h2>{title}</h2>
        <span className="end">
          <Export name={name} drawing={drawing} json={json} />
        </span>
      </div>
      <p className="muted small">{sentence}</p>
      <Heatmap
        matrix={matrix}
        colours="diverging"
        range={RANGE}
        rowLabels={rows}
        columnLabels={columns}
        label={label}
        describe={told}
        store={store}
        drawing={drawing}
      />
      <p className="small told-line">
        {!here && <span className="muted">most: </span>}
        {told(row, column)}
      </p>
      <TableAlternative
        caption={label}
        columns={["", ...columns]}
        rows={() =>
          rows.map((name, row) => [
            name,
            ...columns.map((_, column) => `${Math.round(100 * shareAt(row, column))} %`),
          ])
        }
      />
    </>
  );
}
