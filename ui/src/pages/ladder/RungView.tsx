/** One rung: what it adds, what it makes of the prompt, and how it goes on. */
import type { ReactNode } from "react";
import type { Arrays } from "../../api/arrays";
import { type Run, useInspection, useRun } from "../../api/queries";
import type { Resource } from "../../api/resource";
import type { FocusStore } from "../../focus";
import { ProblemNotice } from "../../parts/Notice";
import { Odds } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import type { Settings } from "../../parts/settings";
import { meanNats, oddsAfter, ODDS_SHOWN, tokensOf, useContinuation } from "./looking";
import { Guessed, HEAD_PX, LooksView } from "./RungText";
import { choices, type Model, TOLD } from "./rungs";

/** Room for what is awaited, in CSS pixels: two lines of tokens, an alternative, a continuation. */
const TOKENS_PX = 58;
const ODD_PX = 32;
const TEXT_PX = 108;

interface Props {
  model: Model;
  number: number;
  run: Run | undefined;
  guess: Resource<Arrays>;
  prompt: string;
  settings: Settings;
  vocabulary: Vocabulary;
  /** The pointer, over the same text in all rungs. */
  store: FocusStore;
  /** The token after which is asked what comes next; null: the last. */
  pinned: number | null;
  onPin: (index: number) => void;
  again: number;
  onAgain: () => void;
}

export function RungView(props: Props) {
  const { model, number, run } = props;
  const { title, adds } = TOLD[model];
  return (
    <article className="rung" aria-label={title}>
      <header>
        <h2>
          <span className="muted">{number}</span> {title}
        </h2>
        <p className="small">{adds}</p>
      </header>
      {run ? (
        <Looked {...props} run={run} />
      ) : (
        <p className="small muted missing">
          This ladder has no such rung yet. The Training page can train one on the served run’s
          corpus.
        </p>
      )}
    </article>
  );
}

function Looked(props: Props & { run: Run }) {
  const { run, guess: tokens, prompt, settings, vocabulary, store, pinned, onPin, again } = props;
  const asked = prompt ? { run: run.name, prompt } : null;
  const heads = run.n_head > 0;
  const attention = useInspection("attention", heads ? asked : null, again);
  const text = useContinuation(run, prompt, settings, again);
  const { value: detail } = useRun(run.name);
  const answer = tokens.value;
  const ids = answer ? tokensOf(answer) : [];
  const position = Math.min(pinned ?? Infinity, ids.length - 1);
  const fresh = tokens.fresh && text.fresh && attention.fresh;
  return (
    <>
      <Facts run={run} entropy={detail?.entropy_nats ?? null} />
      <Part
        title="How well it guesses"
        high={TOKENS_PX}
        told={meanTold(answer)}
        waiting={!tokens.fresh}
      >
        <ProblemNotice problem={tokens.problem} retry={props.onAgain} />
        {answer && (
          <Guessed
            ids={ids}
            answer={answer}
            vocabulary={vocabulary}
            store={store}
            pinned={pinned}
            onPin={onPin}
          />
        )}
      </Part>
      <Part title="What it expects next" high={ODDS_SHOWN * ODD_PX} waiting={!tokens.fresh}>
        {answer && position >= 0 && (
          <Odds odds={oddsAfter(answer, position)} vocabulary={vocabulary} />
        )}
      </Part>
      <Part title="How it goes on" high={TEXT_PX} waiting={!fresh}>
        <ProblemNotice problem={text.problem} retry={props.onAgain} />
        {text.value && (
          <p className="continuation">
            {vocabulary.decode(text.value.tokens.map(({ id }) => id))}
            {text.value.finish === "length" && <span className="muted">…</span>}
          </p>
        )}
      </Part>
      <Part
        title="Where it looks from there"
        waiting={!attention.fresh}
        high={run.n_layer * run.n_head * HEAD_PX}
      >
        <ProblemNotice problem={attention.problem} retry={props.onAgain} />
        {!heads && <p className="small muted">Nowhere: it has no attention.</p>}
        {attention.value && position >= 0 && (
          <LooksView
            answer={attention.value}
            position={position}
            ids={ids}
            vocabulary={vocabulary}
            store={store}
          />
        )}
      </Part>
    </>
  );
}

function meanTold(answer: Arrays | undefined): string {
  const nats = answer ? meanNats(answer) : null;
  return nats === null ? "" : `${nats.toFixed(2)} nats`;
}

interface PartProps {
  title: string;
  told?: string;
  waiting: boolean;
  /** Room for what comes, in CSS pixels. */
  high?: number;
  children: ReactNode;
}

function Part({ title, told, waiting, high, children }: PartProps) {
  return (
    <section className={waiting ? "stack tight waiting" : "stack tight"}>
      <div className="row titled">
        <h3>{title}</h3>
        {told && <span className="end small muted numeric">{told}</span>}
      </div>
      <div style={{ minHeight: high }}>{children}</div>
    </section>
  );
}

function Facts({ run, entropy }: { run: Run; entropy: number | null }) {
  const loss = run.validation_loss;
  return (
    <dl className="facts">
      <dt>parameters</dt>
      <dd>{run.parameters.toLocaleString("en")}</dd>
      <dt>validation loss</dt>
      <dd>{loss === null ? "not measured" : `${loss.toFixed(3)} nats`}</dd>
      <dt>as unsure as among</dt>
      <dd>{loss === null ? "–" : `${choices(loss)} tokens`}</dd>
      <dt>over the entropy</dt>
      <dd>{loss === null || entropy === null ? "–" : `${(loss - entropy).toFixed(3)} nats`}</dd>
    </dl>
  );
}
