/** The logit lens: what the model would say next, had it ended at each depth. */
import { useMemo, useRef, useState } from "react";
import type { Arrays } from "../../api/arrays";
import { type Subject, useInspection } from "../../api/queries";
import { FocusStore } from "../../focus";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { Empty, ProblemNotice } from "../../parts/Notice";
import { percent } from "../../parts/Odds";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { Segments } from "../../parts/Segments";
import { TableAlternative } from "../../parts/Table";
import { choose, useNumber, useValue } from "../../place";
import { ALTERNATIVES, asked, oddsAt, tokensOf } from "./reading";
import { depthInWords, DepthPanel, shortDepth, usePointed } from "./DepthPanel";
import { type Measure, measured, MEASURES, shares, TOLD } from "./measures";
import { Ramp, Room } from "./Ramp";
import type { Cell, Score } from "./score";
import { ScoreView } from "./ScoreView";

export function LensView({ subject }: { subject: Subject }) {
  const { run } = subject;
  const prompt = usePrompt(run);
  const [again, setAgain] = useState(0);
  const able = run.sites.includes("residual");
  const question = { ...asked(subject), prompt, alternatives: ALTERNATIVES };
  const { value, problem, fresh } = useInspection("lens", able && prompt ? question : null, again);
  return (
    <>
      <PromptBar run={run} />
      {!able && (
        <Empty>
          {run.name} is a model without layers, so there is nothing between what it reads and what
          it says. Choose another run above.
        </Empty>
      )}
      <ProblemNotice problem={problem} retry={() => setAgain(again + 1)} />
      {value ? (
        <Lens subject={subject} lens={value} fresh={fresh} />
      ) : (
        able && <Room waiting={!problem} />
      )}
    </>
  );
}

function Lens({ subject, lens, fresh }: { subject: Subject; lens: Arrays; fresh: boolean }) {
  const { vocabulary, run } = subject;
  const drawing = useRef<Drawing>(null);
  const store = useMemo(() => new FocusStore(), []);
  const [shade, setShade] = useValue("shade", "probability");
  const measure: Measure = MEASURES.find((name) => name === shade) ?? "probability";
  const tokens = useMemo(() => tokensOf(lens), [lens]);
  const depths = lens.fields.alternatives!.shape[0]!;
  const [pin] = useValue("pin");
  const [atPosition] = useNumber("pin", tokens.length - 1);
  const [atDepth] = useNumber("depth", depths - 1);
  const pinned: Cell = {
    position: Math.min(Math.max(atPosition, 0), tokens.length - 1),
    depth: Math.min(Math.max(atDepth, 0), depths - 1),
  };

  const score = useMemo<Score>(() => {
    const rows = Array.from({ length: depths }, (_, depth) =>
      tokens.map((_, position) => oddsAt(lens, depth, position)[0]!.id),
    );
    return {
      heads: tokens.map((id) => vocabulary.label(id)),
      words: rows.map((row) => row.map((id) => vocabulary.label(id))),
      right: rows.map((row) => row.map((id, position) => id === tokens[position + 1])),
      shares: shares(lens, measure, vocabulary.size),
      depthNames: rows.map((_, depth) => (depth === 0 ? "input" : `layer ${depth - 1}`)),
      shortNames: rows.map((_, depth) => shortDepth(depth)),
    };
  }, [lens, tokens, depths, vocabulary, measure]);

  const describe = ({ position, depth }: Cell) => {
    const best = oddsAt(lens, depth, position)[0]!;
    const share = percent(Math.exp(best.logprob));
    const name = depthInWords(depth, depths);
    return `${score.heads[position]}, ${name}: says ${vocabulary.label(best.id)}, ${share}`;
  };
  const told = TOLD[measure];
  return (
    <div className={fresh ? "beside" : "beside waiting"}>
      <section className="stack" aria-label="Logit lens">
        <div className="row">
          <Segments
            label="Shade by"
            options={MEASURES.map((name) => [name, TOLD[name].title] as const)}
            value={measure}
            onChange={setShade}
          />
          <span className="end">
            <Export
              name={`${run.name.replace(/\W+/g, "-")}-lens`}
              drawing={drawing}
              json={() => ({ run: run.name, ...lens.beside, ...lens.fields })}
            />
          </span>
        </div>
        <p className="muted small">
          {told.sentence} Underlined where it is the token that really follows.
        </p>
        <ScoreView
          score={score}
          label={`What each of ${depths} depths would say after each of ${tokens.length} tokens`}
          describe={describe}
          store={store}
          pinned={pinned}
          reveal={pin !== ""}
          onPin={({ position, depth }) => choose({ pin: position, depth })}
          drawing={drawing}
        />
        <CellLine store={store} pinned={pinned} describe={describe} />
        <Ramp colours="sequential" names={[told.faint, told.strong]} />
        <TableAlternative
          caption="The likeliest next token by token read and depth"
          columns={["read", ...score.depthNames]}
          rows={() =>
            tokens.map((_, position) => [
              score.heads[position],
              ...score.words.map((row, depth) => {
                const share = score.shares[depth * tokens.length + position]!;
                return `${row[position]} ${measured(measure, share, vocabulary.size)}`;
              }),
            ])
          }
        />
      </section>
      <div className="sticky">
        <DepthPanel
          lens={lens}
          tokens={tokens}
          vocabulary={vocabulary}
          store={store}
          pinned={pinned}
          onDepth={(position, depth) => choose({ pin: position, depth })}
        />
      </div>
    </div>
  );
}

function CellLine(props: { store: FocusStore; pinned: Cell; describe: (cell: Cell) => string }) {
  const cell = usePointed(props.store, props.pinned);
  return <p className="small cell-line">{props.describe(cell)}</p>;
}
