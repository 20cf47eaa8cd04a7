/** How far a run is, in numbers; their places are kept before there are any. */
import { lastOf, median, lineOf, type Story } from "../../api/story";
import { spell, spellCount } from "./words";

interface Props {
  story: Story;
  step: number;
  total: number | null;
  /** Seconds, as the server reckons. */
  eta: number | null;
  under: boolean;
}

export function Numbers({ story, step, total, eta, under }: Props) {
  const ms = median(lineOf(story, "perf/step_ms"));
  const left = eta ?? (ms && total ? ((total - step) * ms) / 1000 : null);
  const speed = lastOf(story, "perf/tokens_per_sec");
  return (
    <dl className="numbers">
      <Number
        name="Step"
        value={step.toLocaleString("en")}
        beside={total ? `of ${total.toLocaleString("en")}` : ""}
      />
      <Number
        name="Train loss"
        value={fixed(lastOf(story, "train/loss"))}
        beside="nats per token"
      />
      <Number
        name="Validation loss"
        value={fixed(lastOf(story, "val/loss"))}
        beside="nats per token"
      />
      <Number
        name="Excess over entropy"
        value={fixed(lastOf(story, "val/excess_nats"))}
        beside="nats per character"
      />
      <Number
        name="Speed"
        value={speed === null ? "–" : spellCount(speed)}
        beside="tokens a second"
      />
      <Number
        name="Time left"
        value={under && left !== null ? spell(left) : "–"}
        beside={under ? "at this pace" : "it has ended"}
      />
    </dl>
  );
}

function Number({ name, value, beside }: { name: string; value: string; beside: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="figure">{value}</dd>
      <dd className="muted small">{beside}</dd>
    </div>
  );
}

function fixed(value: number | null): string {
  return value === null ? "–" : value.toFixed(3);
}

export function Progress({ step, total }: { step: number; total: number | null }) {
  return (
    <div
      className="bar progress"
      role="progressbar"
      aria-label="Steps done"
      aria-valuemin={0}
      aria-valuemax={total ?? undefined}
      aria-valuenow={total ? step : undefined}
      style={{ "--share": total ? Math.min(step / total, 1) : 0 }}
    />
  );
}
