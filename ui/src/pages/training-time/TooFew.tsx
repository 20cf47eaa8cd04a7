/** For a run without a past to look at: how to get one, and which runs have one. */
import { type RunDetail, useRuns } from "../../api/queries";
import { Empty } from "../../parts/Notice";
import { choose } from "../../place";

export function TooFew({ run }: { run: RunDetail }) {
  const runs = useRuns();
  const others = runs.value?.runs.filter(({ steps }) => steps.length > 1) ?? [];
  return (
    <Empty>
      <div className="stack">
        <p>
          {run.name} has {run.steps.length === 1 ? "one checkpoint" : "no checkpoint"}; two or more
          are needed to see it learn.{" "}
          {run.training
            ? "It is in training: those that it saves appear here."
            : "Train with --config.checkpoint.milestones=24, and that many are kept of its way."}
        </p>
        {others.length > 0 && (
          <div className="row others">
            {others.map(({ name, steps }) => (
              <button
                key={name}
                type="button"
                className="button"
                onClick={() =>
                  choose({ run: name === runs.value?.served ? null : name, step: null })
                }
              >
                {name}, {steps.length} checkpoints
              </button>
            ))}
          </div>
        )}
      </div>
    </Empty>
  );
}
