/** For a run that was not tuned: which ones can chat, or how to get one. */
import type { Run } from "../../api/queries";
import { choose } from "../../place";

interface Props {
  run: Run;
  runs: readonly Run[] | undefined;
}

export function NoChat({ run, runs }: Props) {
  const able = runs?.filter(({ tuned, steps }) => tuned && steps.length > 0) ?? [];
  return (
    <section className="stack card nochat">
      <h2>{run.name} has learned to continue texts, not to answer</h2>
      {runs === undefined ? (
        <p className="muted">Looking for a run that has…</p>
      ) : able.length > 0 ? (
        <>
          <p>These runs were tuned on conversations:</p>
          <ul className="able">
            {able.map((each) => (
              <li key={each.name}>
                <button
                  type="button"
                  className="button"
                  onClick={() => choose({ run: each.name, step: null })}
                >
                  Talk with {each.name}
                </button>
                <span className="muted small">
                  {each.parameters.toLocaleString("en")} parameters, context of {each.context}{" "}
                  tokens, tuned on {each.corpus}
                </span>
              </li>
            ))}
          </ul>
        </>
      ) : (
        <>
          <p>No run beside it has, either. Two minutes of tuning on two CPU cores make one:</p>
          <Command>scripts/run python -m nanogpt_jax.main --config=configs/sft.py</Command>
          <p className="muted small">
            It begins with the model of configs/minigpt.py. When its first checkpoint is saved,
            choose it above.
          </p>
        </>
      )}
    </section>
  );
}

export function Command({ children }: { children: string }) {
  return (
    <pre className="command" tabIndex={0}>
      <code>{children}</code>
    </pre>
  );
}
