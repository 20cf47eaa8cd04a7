/** The same prompt asked at each checkpoint while the run learns: the answers, one below the other. */
import { useEffect, useRef, useState } from "react";
import { type Run, useRun, useVocabulary } from "../../api/queries";
import { Export } from "../../parts/Export";
import { ProblemNotice } from "../../parts/Notice";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { rowsOf, useFilm } from "./film";

export function FilmPanel({ run, live }: { run: Run | undefined; live: boolean }) {
  const [again, setAgain] = useState(0);
  const detail = useRun(run?.name ?? "").value;
  const vocabulary = useVocabulary(detail);
  const prompt = usePrompt(detail);
  const [earlier, setEarlier] = useState(false);
  const steps = run?.steps ?? [];
  const film = useFilm(run?.name ?? null, steps, prompt, { live, earlier, again });
  const frames = film.value ?? [];
  const latest = frames.at(-1)?.step;
  const box = useRef<HTMLOListElement>(null);
  useEffect(() => {
    const list = box.current;
    list?.scrollTo({ top: list.scrollHeight });
  }, [latest]);
  return (
    <section className="stack tight film" aria-labelledby="film-title">
      <div className="row">
        <h2 id="film-title">Ask it as it learns</h2>
        {run && frames.length > 0 && (
          <span className="end">
            <Export
              name={`${run.name.replace(/\W+/g, "-")}-answers`}
              json={() =>
                frames.map(({ step, ids }) => ({ step, prompt, text: vocabulary?.decode(ids) }))
              }
            />
          </span>
        )}
      </div>
      {detail ? (
        <PromptBar run={detail} label="Each checkpoint goes on from here" />
      ) : (
        <div className="prompt-room" />
      )}
      <ol ref={box} className="frames" tabIndex={0} aria-label="Its answers, the latest last">
        {rowsOf(steps, frames, earlier).map(({ step, ids }) => (
          <li key={step}>
            <span className="muted small numeric">step {step.toLocaleString("en")}</span>
            <span className="said">{ids ? vocabulary?.decode(ids) : "…"}</span>
          </li>
        ))}
        {frames.length === 0 && (
          <li className="muted small">
            <span />
            {live
              ? "It is asked when it has saved its first checkpoint."
              : "It has not been asked yet."}
          </li>
        )}
      </ol>
      <div className="more">
        {!live && steps.length > frames.length && (
          <button
            type="button"
            className="button small"
            disabled={earlier}
            onClick={() => setEarlier(true)}
          >
            Ask its earlier checkpoints too
          </button>
        )}
      </div>
      <ProblemNotice problem={film.problem} retry={() => setAgain(again + 1)} />
    </section>
  );
}
