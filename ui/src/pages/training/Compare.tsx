/** Runs laid over each other in one chart, and in numbers. */
import { useMemo, useRef, useState } from "react";
import { choose, useValue } from "../../place";
import type { Drawing } from "../../parts/Canvas";
import { Curve } from "../../parts/Curve";
import { Export } from "../../parts/Export";
import { Empty, ProblemNotice } from "../../parts/Notice";
import { Segments } from "../../parts/Segments";
import { TableAlternative } from "../../parts/Table";
import { CompareTable } from "./CompareTable";
import {
  type Along,
  comparable,
  joinNames,
  linesOf,
  type Measure,
  rowOf,
  splitNames,
  usualNames,
} from "./compared";
import type { Runs } from "./following";
import { RunPicker } from "./RunPicker";
import { useStories } from "../../api/stories";
import { spell, spellCount } from "./words";

const MEASURES = [
  ["val/loss", "validation loss"],
  ["train/loss", "train loss"],
  ["val/excess_nats", "excess"],
] as const;

const ALONG = [
  ["steps", "by steps"],
  ["tokens", "by tokens"],
  ["seconds", "by time"],
] as const;

const ACROSS: Record<Along, (value: number) => string> = {
  steps: (step) => `step ${step.toLocaleString("en")}`,
  tokens: (tokens) => `${spellCount(tokens)} tokens`,
  seconds: (seconds) => `${spell(seconds)} of updates`,
};

const TOLD: Record<Measure, string> = {
  "val/loss": "Surprise at texts that were never trained on, in nats per token; lower is better.",
  "train/loss": "Surprise at the texts that are trained on, in nats per token; lower is better.",
  "val/excess_nats":
    "Surprise beyond the texts’ own entropy, which no reader can foresee, in nats per character: 0 is perfect.",
};

const LIVE_MS = 2000;

interface Props {
  runs: Runs;
  /** The run that is watched, which is among those compared before anybody has chosen. */
  watched: string | undefined;
}

export function Compare({ runs: { runs, served }, watched }: Props) {
  const [names] = useValue("compare");
  const [measureName, setMeasure] = useValue("measure", "val/loss");
  const [alongName, setAlong] = useValue("along", "steps");
  const [again, setAgain] = useState(0);
  const measure = MEASURES.find(([name]) => name === measureName)?.[0] ?? "val/loss";
  const along = ALONG.find(([name]) => name === alongName)?.[0] ?? "steps";
  // Found once, so that no line changes its colour while one looks.
  const [usual] = useState(() => usualNames(runs, served));
  const wanted = names ? splitNames(names) : usual.filter((name) => name !== watched);
  if (!names && watched) wanted.push(watched);
  const chosen = wanted.flatMap((name) => runs.find((run) => run.name === name) ?? []);
  const live = chosen.some((run) => run.training);
  const { stories, problem } = useStories(
    chosen.map(({ name }) => name),
    live ? LIVE_MS : null,
    again,
  );
  const chosenKey = chosen.map(({ name }) => name).join("\n");
  const series = useMemo(
    () => linesOf(chosen, stories, measure, along),
    // The runs change with every look at the shelf; what is drawn of them are their names.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [chosenKey, stories, measure, along],
  );
  const rows = chosen.map((run) => rowOf(run, stories.get(run.name)));
  const drawing = useRef<Drawing>(null);
  const strange = chosen.find((run) => !comparable(run, chosen[0]!));
  return (
    <section className="card stack compare" aria-labelledby="compare-title">
      <div className="row">
        <h2 id="compare-title">Compare runs</h2>
        {series.length > 0 && (
          <span className="end">
            <Export
              name="compared-runs"
              drawing={drawing}
              json={() => ({ measure, along, series, rows })}
            />
          </span>
        )}
      </div>
      <div className="sides">
        <RunPicker
          runs={runs}
          served={served}
          chosen={chosen.map(({ name }) => name)}
          onChoose={(names) => choose({ compare: joinNames(names) })}
        />
        <div className="stack">
          <div className="row">
            <Segments
              label="What is compared"
              options={MEASURES}
              value={measure}
              onChange={setMeasure}
            />
            <Segments label="Along what" options={ALONG} value={along} onChange={setAlong} />
          </div>
          <p className="muted small">{TOLD[measure]}</p>
          {series.length > 0 ? (
            <Curve
              label={`${MEASURES.find(([name]) => name === measure)![1]} of ${series.length} runs, ${ALONG.find(([name]) => name === along)![1]}`}
              series={series}
              height={340}
              drawing={drawing}
              across={ACROSS[along]}
              digits={3}
              direct
            />
          ) : (
            <Empty>{emptyOf(chosen.length, measure)}</Empty>
          )}
          {strange && measure !== "val/excess_nats" && (
            <p className="notice small">
              These runs do not have the same corpus and tokenizer: their losses per token do not
              mean the same.
            </p>
          )}
          {series.length > 0 && (
            <TableAlternative
              caption="The chosen runs by step"
              columns={["run", ALONG.find(([name]) => name === along)![1].slice(3), "value"]}
              rows={() =>
                series.flatMap(({ name, steps, values }) =>
                  steps.map((step, index) => [
                    name,
                    Math.round(step),
                    values[index]?.toFixed(4) ?? "",
                  ]),
                )
              }
            />
          )}
          <ProblemNotice problem={problem} retry={() => setAgain(again + 1)} />
        </div>
      </div>
      {rows.length > 0 && <CompareTable rows={rows} />}
    </section>
  );
}

function emptyOf(chosen: number, measure: Measure): string {
  if (chosen === 0) return "Choose runs to lay them over each other.";
  if (measure === "val/excess_nats") {
    return "None of these has such numbers: only of texts that are made by a rule is the entropy known.";
  }
  return "None of these has written such numbers yet.";
}
