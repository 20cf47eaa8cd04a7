/** All heads in numbers, sorted by whichever column is pressed. */
import { useMemo, useState } from "react";
import { percent } from "../../parts/Odds";
import { type Chosen, chooseHead } from "./chosen";
import type { Looks, Summary } from "./looks";

interface Row extends Summary {
  readonly layer: number;
  readonly head: number;
}

const COLUMNS: readonly { name: string; value: (row: Row) => number }[] = [
  { name: "head", value: ({ layer, head }) => 1000 * layer + head },
  { name: "entropy", value: ({ entropyBits }) => entropyBits },
  { name: "distance", value: ({ distanceTokens }) => distanceTokens },
  { name: "first", value: ({ first }) => first },
];

export function HeadTable({ looks, chosen }: { looks: Looks; chosen: Chosen }) {
  const [sorted, setSorted] = useState({ column: 0, down: false });
  const rows = useMemo(() => {
    const all = looks.layers.flatMap((layer) =>
      Array.from({ length: looks.heads }, (_, head): Row => {
        return { layer, head, ...looks.summary(layer, head) };
      }),
    );
    const { value } = COLUMNS[sorted.column]!;
    const sign = sorted.down ? -1 : 1;
    return all.sort((a, b) => sign * (value(a) - value(b)));
  }, [looks, sorted]);
  return (
    <section className="stack tight numbers" aria-labelledby="numbers-title">
      <h2 id="numbers-title">In numbers</h2>
      <div className="scroll" tabIndex={0} role="region" aria-label="All heads in numbers">
        <table>
          <thead>
            <tr>
              {COLUMNS.map(({ name }, column) => {
                const here = column === sorted.column;
                const order = sorted.down ? "descending" : "ascending";
                return (
                  <th key={name} scope="col" aria-sort={here ? order : undefined}>
                    <button
                      type="button"
                      onClick={() => setSorted({ column, down: here && !sorted.down })}
                    >
                      {name}
                      <span aria-hidden>{here ? (sorted.down ? " ↓" : " ↑") : ""}</span>
                    </button>
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ layer, head, entropyBits, distanceTokens, first }) => {
              const shown = layer === chosen.layer && head === chosen.head;
              return (
                <tr key={`${layer} ${head}`} data-chosen={shown || undefined}>
                  <th scope="row">
                    <button
                      type="button"
                      aria-pressed={shown}
                      aria-label={`${layer}.${head}: layer ${layer}, head ${head}`}
                      onClick={() => chooseHead(layer, head)}
                    >
                      {layer}.{head}
                    </button>
                  </th>
                  <td>{entropyBits.toFixed(1)}</td>
                  <td>{distanceTokens.toFixed(1)}</td>
                  <td>{percent(first)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      <p className="muted small">
        Layer.head, means over the text. Entropy: over how many tokens a look is spread; 0 bits is
        one token, each bit more is twice as many. Distance: how many tokens back. First: how much
        is taken from the first token.
      </p>
    </section>
  );
}
