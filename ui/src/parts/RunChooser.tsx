/** Which run, and which of its checkpoints, all pages look at. */
import type { Run, RunDetail } from "../api/queries";
import { choose } from "../place";
import { Select } from "./Field";

interface Props {
  runs: readonly Run[];
  served: string;
  run: RunDetail;
  step: number | null;
}

export function RunChooser({ runs, served, run, step }: Props) {
  const names = runs.filter((each) => each.steps.length > 0).map((each) => each.name);
  if (!names.includes(run.name)) names.unshift(run.name);
  const last = Math.max(...run.steps);
  const newest = run.served_step ?? last;
  return (
    <div className="row chooser">
      <Select
        label="Run"
        hideLabel
        value={run.name}
        options={names.map((name) => [name, name === served ? `${name} (served)` : name])}
        onChange={(name) => choose({ run: name === served ? null : name, step: null })}
      />
      <Select
        label="Checkpoint"
        hideLabel
        value={step === null ? "" : String(step)}
        options={[
          ["", `step ${newest}`],
          ...[...run.steps]
            .reverse()
            .filter((each) => each !== newest)
            .map((each) => [String(each), `step ${each}`] as const),
        ]}
        onChange={(step) => choose({ step })}
      />
    </div>
  );
}
