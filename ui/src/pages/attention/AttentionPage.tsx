/** Where every head of every layer looks: all of them small, one of them large, linked. */
import { type KeyboardEvent, useMemo, useState } from "react";
import type { PageProps } from "../../App";
import type { Subject } from "../../api/queries";
import { FocusStore } from "../../focus";
import { Check } from "../../parts/Field";
import { Empty, ProblemNotice } from "../../parts/Notice";
import { PromptBar, usePrompt } from "../../parts/PromptBar";
import { choose } from "../../place";
import { pinAt } from "./chosen";
import { endThatFits } from "./fitting";
import { HeadGrid } from "./HeadGrid";
import { HeadTable } from "./HeadTable";
import { HeadView } from "./HeadView";
import { routesOf } from "./routes";
import { Routing } from "./Routing";
import { type Looking, useLooks } from "./useLooks";
import "./attention.css";

export default function AttentionPage({ subject }: PageProps) {
  const { run } = subject;
  return (
    <>
      <header>
        <h1>Where it looks</h1>
        <p>
          To tell what comes next, each head of each layer looks back over the text and takes
          something from the tokens it looks at. The stronger a shade, the more is taken.
        </p>
      </header>
      <PromptBar run={run} />
      {run.sites.includes("attention") ? (
        // An answer in tokens of another vocabulary would be misread while a new one is awaited.
        <Attention key={run.tokenizer_sha256} subject={subject} />
      ) : (
        <Empty>
          This model has no attention: it tells what comes next from the last token alone. Choose
          another run above to see where one looks.
        </Empty>
      )}
    </>
  );
}

function Attention({ subject }: { subject: Subject }) {
  const prompt = usePrompt(subject.run);
  const [again, setAgain] = useState(0);
  const { looking, problem, fresh } = useLooks(subject, prompt, again);
  const end = endThatFits(prompt, problem);
  return (
    <>
      <ProblemNotice problem={problem} retry={end ? undefined : () => setAgain(again + 1)} />
      {end && (
        <div>
          <button
            type="button"
            className="button"
            onClick={() => choose({ prompt: end, pin: null, "pin-key": null })}
          >
            Keep the end of the text that fits
          </button>
        </div>
      )}
      {looking ? (
        <Linked subject={subject} looking={looking} waiting={!fresh} />
      ) : (
        <p className="muted">{problem || !prompt ? "" : "Looking…"}</p>
      )}
    </>
  );
}

interface LinkedProps {
  subject: Subject;
  looking: Looking;
  waiting: boolean;
}

/** All views of one answer. They share what the pointer is on, and what is pinned. */
function Linked({ subject, looking, waiting }: LinkedProps) {
  const { answer, looks, tokens, chosen, layers } = looking;
  const store = useMemo(() => new FocusStore(), []);
  const routes = useMemo(() => routesOf(answer), [answer]);
  const togglePin = (query: number, key: number | null = null) => {
    const same = query === chosen.pin && key === chosen.pinKey;
    pinAt(same ? null : query, same ? null : key);
  };
  const letGo = (event: KeyboardEvent) => {
    if (event.key === "Escape" && chosen.pin !== null) pinAt(null);
  };
  return (
    <div className={waiting ? "attention waiting" : "attention"} onKeyDown={letGo}>
      <section className="stack all" aria-labelledby="heads-title">
        <h2 id="heads-title">All heads</h2>
        <p className="muted small">
          A picture for each: layers go down, heads across. Press one to see it large.
          {looks.layers.length < layers &&
            " The text is long, so one layer is loaded at a time: that of the head you choose."}
        </p>
        <HeadGrid looks={looks} layers={layers} chosen={chosen} store={store} />
        <div className="stack tight">
          <Check checked={chosen.leaveOutFirst} onChange={(on) => choose({ sink: on ? 1 : null })}>
            Leave out the first token
          </Check>
          <p className="muted small">
            A head that finds nothing often rests on the first token. Without it, what is left of
            each row is scaled to sum to one.
          </p>
        </div>
      </section>
      <HeadTable looks={looks} chosen={chosen} />
      <HeadView
        subject={subject}
        looks={looks}
        tokens={tokens}
        chosen={chosen}
        store={store}
        onPin={togglePin}
      />
      {routes && (
        <Routing
          subject={subject}
          routes={routes}
          tokens={tokens}
          layer={chosen.layer}
          store={store}
          pinned={chosen.pin}
          onPin={togglePin}
        />
      )}
    </div>
  );
}
