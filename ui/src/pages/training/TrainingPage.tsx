/** Training: start a run, watch it learn, ask it meanwhile, and lay runs over each other. */
import { useState } from "react";
import type { PageProps } from "../../App";
import { askJson, type Schemas } from "../../api/client";
import { keptValue } from "../../api/resource";
import { choose } from "../../place";
import { Compare } from "./Compare";
import { useFollowing, type Runs, useShelf } from "./following";
import { usePolled } from "../../api/polled";
import { StartForm } from "./StartForm";
import type { Request } from "./starting";
import { Watch } from "./Watch";
import "./training.css";

export default function TrainingPage({ subject }: PageProps) {
  const [busy, setBusy] = useState(true);
  const shelf = useShelf(busy);
  const runs = shelf.runs ?? keptValue<Runs>("runs");
  const following = useFollowing(runs);
  const [asked, setAsked] = useState<{ request: Request; count: number } | null>(null);
  const started = usePolled(
    asked && `start ${asked.count}`,
    async (signal) => {
      const body = asked!.request;
      const { run_id } = await askJson<Schemas["Admitted"]>("/api/train", { body, signal });
      choose({ live: run_id });
      setAsked(null);
    },
    null,
  );
  const pending = asked !== null && !started.problem;
  const under = pending || (following?.under ?? false);
  if (busy !== under) setBusy(under);

  const form = (
    <StartForm
      problem={started.problem}
      pending={pending}
      served={runs?.served ?? subject.run.name}
      onStart={(request) => setAsked({ request, count: (asked?.count ?? 0) + Date.now() })}
    />
  );
  return (
    <>
      <header>
        <h1>Train and watch</h1>
        <p>
          Training shows a model texts and corrects it a little after each few, so that it would
          have been less surprised by what came next. That surprise is the loss: here it falls.
        </p>
      </header>
      {(pending || following) && (
        <Watch
          following={pending ? null : following}
          served={runs?.served}
          key={String(pending || following?.live)}
        />
      )}
      {under ? (
        <details className="card another">
          <summary>Start another run</summary>
          {form}
        </details>
      ) : (
        <section className="card" aria-labelledby="start-title">
          {form}
        </section>
      )}
      {runs && <Compare runs={runs} watched={following?.run?.name} />}
    </>
  );
}
