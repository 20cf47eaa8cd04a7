/** A mixture of experts: which of them answers which token, in the chosen layer. */
import { useMemo, useRef } from "react";
import type { Subject } from "../../api/queries";
import type { FocusStore } from "../../focus";
import { useFocusPainter } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { percent } from "../../parts/Odds";
import { Segments } from "../../parts/Segments";
import { TableAlternative } from "../../parts/Table";
import { TokenText } from "../../parts/TokenText";
import { choose, useNumber } from "../../place";
import { ExpertStrip } from "./ExpertStrip";
import { answering, busiest, type Routes } from "./routes";

interface Props {
  subject: Subject;
  routes: Routes;
  tokens: readonly number[];
  layer: number;
  store: FocusStore;
  pinned: number | null;
  onPin: (token: number) => void;
}

export function Routing({ subject, routes, tokens, layer, store, pinned, onPin }: Props) {
  const { vocabulary, run } = subject;
  const drawing = useRef<Drawing>(null);
  const told = useRef<HTMLParagraphElement>(null);
  const { experts, length } = routes;
  const gates = routes.gates[layer]!;
  const shares = routes.shares[layer]!;
  const [named] = useNumber("expert", -1);
  const expert = Number.isInteger(named) && named >= 0 && named < experts ? named : busiest(shares);
  const labels = useMemo(() => tokens.map((id) => vocabulary.label(id)), [tokens, vocabulary]);
  const shaded = tokens.map((id, at) => ({ id, shade: gates[at * experts + expert]! }));
  const answers = (layer: number, token: number) => {
    const all = routes.gates[layer]!;
    return answering(all, experts, token)
      .map((each) => `expert ${each} ${percent(all[token * experts + each]!)}`)
      .join(", ");
  };
  useFocusPainter(store, ({ query }) => {
    const token = query !== null && query < length ? query : (pinned ?? length - 1);
    if (told.current) told.current.textContent = `${labels[token]}: ${answers(layer, token)}`;
  });
  return (
    <section className="stack routing" aria-labelledby="routing-title">
      <div className="row">
        <h2 id="routing-title">Experts</h2>
        <Segments
          label="Layer"
          options={Array.from({ length: routes.layers }, (_, each) => [
            String(each),
            `layer ${each}`,
          ])}
          value={String(layer)}
          onChange={(each) => choose({ layer: each })}
        />
        <span className="end">
          <Export
            name={`${run.name.replace(/\W+/g, "-")}-layer-${layer}-experts`}
            drawing={drawing}
            json={() => ({
              run: run.name,
              step: subject.step ?? run.served_step,
              tokens: tokens.map((id, at) => ({ id, text: labels[at] })),
              layers: Array.from({ length: routes.layers }, (_, each) => ({
                shares: Array.from(routes.shares[each]!),
                gates: tokens.map((_, at) =>
                  Array.from(routes.gates[each]!).slice(at * experts, (at + 1) * experts),
                ),
              })),
            })}
          />
        </span>
      </div>
      <p className="muted small">
        After a layer has looked, small networks of which only a few are asked work on each token:
        its experts. A router chooses them token by token. The text is shaded by how much of each
        token’s answer comes from the expert that you choose.
      </p>
      <div className="experts">
        <ul className="odds" aria-label="Share of the text that each expert answers">
          {Array.from(shares, (share, each) => (
            <li key={each} className={each === expert ? "chosen" : undefined}>
              <button
                type="button"
                aria-pressed={each === expert}
                onClick={() => choose({ expert: each })}
              >
                <span>expert {each}</span>
                <span className="bar" style={{ "--share": share }} />
                <span className="number">{percent(share)}</span>
              </button>
            </li>
          ))}
        </ul>
        <div className="stack tight">
          <TokenText
            tokens={shaded}
            vocabulary={vocabulary}
            label={`The text, shaded by what expert ${expert} answers`}
            store={store}
            pinned={pinned}
            onPin={onPin}
          />
          <p ref={told} className="mono small" />
          <ExpertStrip
            gates={gates}
            experts={experts}
            labels={labels}
            pinned={pinned}
            chosen={expert}
            store={store}
            onPin={onPin}
            label={`Layer ${layer}: a row for each expert, a column for each token`}
            drawing={drawing}
          />
        </div>
      </div>
      <TableAlternative
        caption="Experts that answer each token, by layer"
        columns={["token", ...Array.from({ length: routes.layers }, (_, each) => `layer ${each}`)]}
        rows={() =>
          labels.map((label, token) => [
            `${token} ${label}`,
            ...Array.from({ length: routes.layers }, (_, each) => answers(each, token)),
          ])
        }
      />
    </section>
  );
}
