/** One run as it is trained: its curves, its numbers, and how it stands. */
import { useEffect, useMemo, useRef } from "react";
import { choose, goTo } from "../../place";
import { Curve, type Series } from "../../parts/Curve";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { ProblemNotice } from "../../parts/Notice";
import { TableAlternative } from "../../parts/Table";
import { FilmPanel } from "./FilmPanel";
import type { Following } from "./following";
import { Numbers, Progress } from "./Numbers";
import { useStories } from "../../api/stories";
import { floorOf, lastStep, lineOf, NOTHING, type Story } from "../../api/story";
import { TITLES, toldOf } from "./told";
import { shortName, spellCount } from "./words";

const LIVE_MS = 1000;
interface Props {
  /** null: a run that is asked for, and not there yet. */
  following: Following | null;
  /** The name of the served run. */
  served: string | undefined;
}

export function Watch({ following, served }: Props) {
  const { run, status, under = true, phase = "starting" } = following ?? {};
  const story =
    useStories(run ? [run.name] : [], under ? LIVE_MS : null).stories.get(run?.name ?? "") ??
    NOTHING;
  const total = status?.total_steps ?? run?.total_steps ?? null;
  const floor = floorOf(story);
  const series = useMemo(() => seriesOf(story), [story]);
  const drawing = useRef<Drawing>(null);
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // Who has just pressed Start is led here; who opened the page stays at its top.
    if (!following) title.current?.focus();
  }, [following]);
  const step = Math.max(status?.steps_completed ?? 0, lastStep(story) ?? 0);
  return (
    <section className="card stack watch" aria-labelledby="watch-title">
      <div className="row">
        <h2 id="watch-title" ref={title} tabIndex={-1}>
          {TITLES[phase]}
        </h2>
        <span className="row end">
          {following?.stop && (
            <button
              type="button"
              className="button small"
              disabled={phase === "stopping"}
              onClick={following.stop}
            >
              Stop and save
            </button>
          )}
          <Export
            name={`${(run?.name ?? "run").replace(/\W+/g, "-")}-training`}
            drawing={drawing}
            json={() => ({ run: run?.name, status, floor, series: story.series })}
          />
          {!under && (
            <button type="button" className="button small" onClick={() => choose({ live: null })}>
              Close
            </button>
          )}
        </span>
      </div>
      <div className="told">
        <p className="muted small which">
          {run &&
            `${shortName(run.name)} · ${run.model} · ${spellCount(run.parameters)} parameters`}
        </p>
        <p role="status">{toldOf(phase, step, run?.name === served, status?.error)}</p>
      </div>
      <ProblemNotice problem={following?.problem ?? null} />
      <Progress step={step} total={total} />
      <Numbers
        story={story}
        step={step}
        total={total}
        eta={status?.eta_seconds ?? null}
        under={under}
      />
      <div className="live">
        <div className="stack tight">
          <Curve
            label="Loss over the steps of training"
            series={series}
            height={300}
            floor={floor === null ? undefined : { value: floor, name: "the text’s own entropy" }}
            until={total ?? undefined}
            drawing={drawing}
            digits={3}
          />
          <p className="muted small">
            The loss is the surprise at the next token, in nats: 0.69 is a coin’s toss. Validation
            is measured on texts that are never trained on.
          </p>
          <TableAlternative
            caption="Losses by step"
            columns={["step", ...series.map(({ name }) => name)]}
            rows={() => rowsOf(series)}
          />
        </div>
        <FilmPanel run={run} live={under} />
      </div>
      {!under && run && (
        <div className="row">
          <button
            type="button"
            className="button"
            onClick={() => goTo("prompt", { run: run.name, step: null })}
          >
            Let it write
          </button>
          <button
            type="button"
            className="button"
            onClick={() => goTo("training-time", { run: run.name, step: null })}
          >
            See it over training
          </button>
        </div>
      )}
    </section>
  );
}

function seriesOf(story: Story): Series[] {
  const [train, validation] = [lineOf(story, "train/loss"), lineOf(story, "val/loss")];
  return [
    { name: "train loss", ...train, colour: "--muted", faint: true },
    { name: "validation loss", ...validation, colour: "--accent" },
  ];
}

function rowsOf(series: readonly Series[]): (string | number)[][] {
  const steps = [...new Set(series.flatMap((each) => each.steps))].sort((a, b) => a - b);
  const found = series.map(
    (each) => new Map(each.steps.map((step, index) => [step, each.values[index]])),
  );
  return steps.map((step) => [step, ...found.map((line) => line.get(step)?.toFixed(4) ?? "")]);
}
