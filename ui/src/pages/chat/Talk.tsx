/** The conversation, what one writes, and how it is answered. */
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import type { Subject } from "../../api/queries";
import { FocusStore } from "../../focus";
import { Export } from "../../parts/Export";
import { Check } from "../../parts/Field";
import { choose, useValue } from "../../place";
import { useSettings } from "../../parts/settings";
import { useChat } from "./chat";
import { Composer } from "./Composer";
import { type Turn, versions, way } from "./conversation";
import { Command } from "./NoChat";
import { Reads } from "./Reads";
import { Side } from "./Side";
import { AnswerView, QuestionView } from "./TurnView";

/** Which token of which answer. */
export interface Pointed {
  readonly key: number;
  readonly index: number;
}

export function Talk({ subject }: { subject: Subject }) {
  const { run, vocabulary, served } = subject;
  const [settings] = useSettings("a");
  const [shade] = useValue("shade");
  const chat = useChat(subject, settings);
  const { conversation, writing } = chat;
  const turns = way(conversation);
  const last = turns.at(-1)?.answer;
  const box = useRef<HTMLTextAreaElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const [pin, setPin] = useState<Pointed | null>(null);
  const [hovered, setHovered] = useState<Pointed | null>(null);

  const length = last?.tokens.length ?? 0;
  useEffect(() => {
    // The end stays in sight while an answer grows, unless one has scrolled up to read.
    const below = (end.current?.getBoundingClientRect().top ?? 0) - innerHeight;
    if (length > 0 && below < 200) end.current?.scrollIntoView({ block: "nearest" });
  }, [length, turns.length, writing]);

  const remembers = vocabulary.hasSpecial("<|system_end|>");
  const at = hovered ?? pin;
  const token =
    at && conversation.turns.find(({ key }) => key === at.key)?.answer?.tokens[at.index];
  const forgotten = last?.forgotten ?? 0;

  return (
    <div
      className="beside"
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !writing) return;
        chat.stop();
        box.current?.focus();
      }}
    >
      <section className="talk" aria-label="Conversation">
        <div className="log">
          {turns.length === 0 && <Start subject={subject} onAsk={chat.ask} />}
          {turns.map((turn, index) => {
            const same = { turn, versions: versions(conversation, turn), onShow: chat.show };
            return (
              <div key={turn.key} className={index < forgotten ? "forgotten" : undefined}>
                {index === forgotten && forgotten > 0 && (
                  <p className="small muted gone">
                    no room: the model no longer reads what stands above
                  </p>
                )}
                {turn.role === "user" ? (
                  <QuestionView {...same} onEdit={(text) => chat.edit(turn.key, text)} />
                ) : (
                  <Pointing turn={turn} onPoint={setHovered}>
                    {(store) => (
                      <AnswerView
                        {...same}
                        shaded={shade !== ""}
                        store={store}
                        pinned={pin?.key === turn.key ? pin.index : null}
                        vocabulary={vocabulary}
                        context={run.context}
                        onPin={(token) => setPin({ key: turn.key, index: token })}
                        onAgain={() => chat.again(turn.key)}
                      />
                    )}
                  </Pointing>
                )}
              </div>
            );
          })}
          <div ref={end} className="tail" />
        </div>
        <p className="unseen" aria-live="polite">
          {writing ? "The model is answering." : last ? `It said: ${turns.at(-1)!.content}` : ""}
        </p>
        <Composer
          writing={writing}
          used={(last?.read.length ?? 0) + length}
          context={run.context}
          suggestion={turns.length ? "" : run.opening}
          most={run.max_prompt_bytes}
          box={box}
          onSend={chat.ask}
          onStop={chat.stop}
        />
      </section>
      <aside className="stack sticky" aria-label="Settings">
        <div className="row">
          <button
            type="button"
            className="button small"
            disabled={turns.length === 0}
            onClick={() => {
              chat.restart();
              setPin(null);
              box.current?.focus();
            }}
          >
            New conversation
          </button>
          <span className="end">
            <Export
              name={`${run.name.replace(/\W+/g, "-")}-chat`}
              json={() => ({
                run: run.name,
                step: subject.step ?? run.served_step,
                settings,
                system: conversation.system,
                turns,
              })}
            />
          </span>
        </div>
        <Check checked={shade !== ""} onChange={(on) => choose({ shade: on ? 1 : null })}>
          shade answers by probability
        </Check>
        <Side
          subject={subject}
          shaded={shade !== ""}
          token={token ?? undefined}
          system={conversation.system}
          onSystem={remembers ? chat.tell : undefined}
        />
        {last && last.read.length > 0 && (
          <Reads read={last.read} written={last.tokens} vocabulary={vocabulary} />
        )}
        {!served && (
          <div className="stack tight small muted">
            <p>The server serves another run, so answers come whole. To see this one write them:</p>
            <Command>{`python -m nanogpt_jax.serve --workdir=…/${run.name}`}</Command>
          </div>
        )}
      </aside>
    </div>
  );
}

function Start({ subject: { run }, onAsk }: { subject: Subject; onAsk: (text: string) => void }) {
  return (
    <div className="start stack">
      <p className="muted">
        {run.name} has {run.parameters.toLocaleString("en")} parameters and was tuned on{" "}
        {run.corpus}: it knows what that talks about, and nothing else.
      </p>
      {run.opening && (
        <div className="row">
          <span className="muted">Ask</span>
          <button type="button" className="button" onClick={() => onAsk(run.opening)}>
            {run.opening}
          </button>
        </div>
      )}
    </div>
  );
}

interface PointingProps {
  turn: Turn;
  onPoint: (at: Pointed | null) => void;
  children: (store: FocusStore) => ReactNode;
}

/** Tells which token of an answer is under the pointer. */
function Pointing({ turn: { key }, onPoint, children }: PointingProps) {
  const store = useMemo(() => new FocusStore(), []);
  useEffect(
    () => store.listen(({ query }) => onPoint(query === null ? null : { key, index: query })),
    [store, key, onPoint],
  );
  return <>{children(store)}</>;
}
