/** The compared runs in numbers, in the order of the column that is pressed. */
import { choose, useValue } from "../../place";
import { type Column, type Row, sortRows } from "./compared";
import { shortName, spellCount } from "./words";

const COLUMNS: readonly (readonly [Column, string])[] = [
  ["name", "run"],
  ["parameters", "parameters"],
  ["steps", "steps"],
  ["loss", "validation loss"],
  ["excess", "excess over entropy"],
  ["speed", "tokens a second"],
];

/** The place holds the column, with a minus before it where the largest is first. */
export function CompareTable({ rows }: { rows: readonly Row[] }) {
  const [sort] = useValue("sort", "loss");
  const down = sort.startsWith("-");
  const by = COLUMNS.find(([name]) => name === sort.replace("-", ""))?.[0] ?? "loss";
  const sorted = sortRows(rows, by, down);
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="The compared runs in numbers">
      <table className="compared">
        <thead>
          <tr>
            {COLUMNS.map(([name, title]) => (
              <th
                key={name}
                scope="col"
                aria-sort={name === by ? (down ? "descending" : "ascending") : undefined}
              >
                <button
                  type="button"
                  onClick={() => choose({ sort: name === by && !down ? `-${name}` : name })}
                >
                  {title}
                  <span aria-hidden>{name === by ? (down ? " ↓" : " ↑") : ""}</span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((row) => (
            <tr key={row.run.name}>
              <th scope="row" title={row.run.name}>
                <span
                  className="dot"
                  style={{ background: `var(--series-${rows.indexOf(row) + 1})` }}
                  aria-hidden
                />
                {shortName(row.run.name)} <span className="muted">{row.run.model}</span>
              </th>
              <td>{row.parameters.toLocaleString("en")}</td>
              <td>{row.steps?.toLocaleString("en") ?? "–"}</td>
              <td>{row.loss?.toFixed(3) ?? "–"}</td>
              <td>{row.excess?.toFixed(3) ?? "–"}</td>
              <td>{row.speed === null ? "–" : spellCount(row.speed)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
