/** Ablation: parts of the model are switched off, and what it says is compared with what it said. */
import { useImperativeHandle, useMemo, useRef, useState } from "react";
import { type Subject, useInspection } from "../../api/queries";
import { FocusStore } from "../../focus";
import { scale } from "../../look/scale";
import { useTheme } from "../../look/theme";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { Empty, ProblemNotice } from "../../parts/Notice";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { TableAlternative } from "../../parts/Table";
import { choose, useNumber, useValue } from "../../place";
import { ALTERNATIVES, asked, sameText, tokensOf } from "./reading";
import { Board } from "./Board";
import { drawnBoard } from "./drawnBoard";
import { harmOf, signed } from "./harm";
import { NextToken } from "./NextToken";
import { Room } from "./Ramp";
import {
  formatOff,
  keyOf,
  nameOf,
  parseOff,
  type Part,
  partsOf,
  type Shape,
  toggled,
} from "./silenced";
import { WholeText } from "./WholeText";

export function AblateView({ subject }: { subject: Subject }) {
  const { run, vocabulary } = subject;
  const prompt = usePrompt(run);
  const [again, setAgain] = useState(0);
  const [offText, setOff] = useValue("off");
  const able = run.sites.includes("head_out");
  const shape: Shape = useMemo(
    () => ({ layers: run.n_layer, heads: run.n_head, mlps: run.sites.includes("mlp_out") }),
    [run],
  );
  const off = parseOff(offText, shape);
  const question = able && prompt ? { ...asked(subject), prompt } : null;
  const told = question && { ...question, alternatives: ALTERNATIVES };
  const silent = told && {
    ...told,
    heads: off.flatMap(({ layer, head }) => (head === null ? [] : [[layer, head]])),
    mlps: off.flatMap(({ layer, head }) => (head === null ? [layer] : [])),
  };
  const before = useInspection("tokens", told, again);
  const after = useInspection("silence", off.length ? silent : null, again);
  const ablation = useInspection("ablate", question, again);
  const harm = useMemo(() => ablation.value && harmOf(ablation.value), [ablation.value]);
  const colours = scale("diverging", useTheme());
  const drawing = useRef<Drawing>(null);
  useImperativeHandle(drawing, () => drawnBoard(shape, off, harm ?? new Map(), colours));
  const tokens = useMemo(() => (before.value ? tokensOf(before.value) : []), [before.value]);
  const comparable = after.value && sameText(tokensOf(after.value), tokens);
  const [wanted] = useNumber("pin", tokens.length - 1);
  const position = Math.min(Math.max(wanted, 0), tokens.length - 1);
  const store = useMemo(() => new FocusStore(), []);
  const toggle = (parts: readonly Part[]) => setOff(formatOff(toggled(off, parts)));
  const compared = {
    after: comparable ? after.value! : before.value!,
    position,
    vocabulary,
  };
  const fresh = before.fresh && (off.length === 0 || after.fresh);

  if (!able) {
    return (
      <>
        <PromptBar run={run} />
        <Empty>{run.name} has no attention heads to switch off. Choose another run above.</Empty>
      </>
    );
  }
  return (
    <>
      <PromptBar run={run} />
      <ProblemNotice
        problem={before.problem ?? after.problem ?? ablation.problem}
        retry={() => setAgain(again + 1)}
      />
      <div className="ablate">
        <section
          className={`stack ablate-board${ablation.value && !ablation.fresh ? " waiting" : ""}`}
          aria-label="Board of parts"
        >
          <div className="row board-tools">
            <h2>{off.length === 0 ? "All parts are on" : `${off.length} switched off`}</h2>
            <span className="end row">
              <button
                type="button"
                className="button small"
                disabled={off.length === 0}
                onClick={() => setOff("")}
              >
                Switch all on
              </button>
              <Export
                name={`${run.name.replace(/\W+/g, "-")}-ablation`}
                {...(harm && { drawing })}
                json={() => ({
                  run: run.name,
                  off: off.map(nameOf),
                  each: ablation.value?.fields,
                  before: before.value?.fields,
                  after: after.value?.fields,
                })}
              />
            </span>
          </div>
          <Board shape={shape} off={off} onToggle={toggle} harm={harm} />
          <p className="muted small">
            Press a part to switch it off. The number on it is how much less sure of this text the
            model is without that part alone, in bits a token (1 bit: half as sure). Blue parts help
            here, orange ones are in the way.
          </p>
          <TableAlternative
            caption="Bits a token more without each part"
            columns={["part", "is", "bits a token more without it"]}
            rows={() =>
              Array.from({ length: shape.layers }, (_, layer) => partsOf(layer, shape))
                .flat()
                .map((part) => [
                  nameOf(part),
                  off.some((each) => keyOf(each) === keyOf(part)) ? "off" : "on",
                  signed(harm?.get(keyOf(part)) ?? NaN),
                ])
            }
          />
        </section>
        {before.value ? (
          <>
            <div className={fresh ? "ablate-odds" : "ablate-odds waiting"}>
              <NextToken
                {...compared}
                before={before.value}
                token={tokens[position]!}
                waiting={off.length > 0 && !comparable}
              />
            </div>
            <div className={fresh ? "ablate-text" : "ablate-text waiting"}>
              <WholeText
                {...compared}
                before={before.value}
                tokens={tokens}
                onPosition={(pin) => choose({ pin })}
                store={store}
              />
            </div>
          </>
        ) : (
          <div className="ablate-odds">
            <Room waiting={!before.problem} />
          </div>
        )}
      </div>
    </>
  );
}
