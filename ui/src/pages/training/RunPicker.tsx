/** Which runs are compared: all on the shelf, each with a box to tick. */
import type { Run } from "../../api/queries";
import { MOST_COMPARED } from "./compared";
import { shortName, spellCount } from "./words";

interface Props {
  runs: readonly Run[];
  served: string;
  chosen: readonly string[];
  onChoose: (names: string[]) => void;
}

export function RunPicker({ runs, served, chosen, onChoose }: Props) {
  const full = chosen.length >= MOST_COMPARED;
  return (
    <fieldset className="picker">
      <legend>
        Runs, {chosen.length} of {MOST_COMPARED} at most
      </legend>
      {runs.map((run) => {
        const place = chosen.indexOf(run.name);
        const ticked = place >= 0;
        return (
          <label key={run.name} className="pick" title={run.name}>
            <input
              type="checkbox"
              checked={ticked}
              disabled={full && !ticked}
              onChange={() =>
                onChoose(
                  ticked ? chosen.filter((name) => name !== run.name) : [...chosen, run.name],
                )
              }
            />
            <span className="name">{shortName(run.name)}</span>
            <span className="muted small">
              {run.model}, {spellCount(run.parameters)}
              {run.name === served && ", served"}
              {run.training && ", training"}
            </span>
            <span
              className="dot"
              style={{ background: ticked ? `var(--series-${place + 1})` : "none" }}
              aria-hidden
            />
          </label>
        );
      })}
    </fieldset>
  );
}
