/** One turn of a conversation, and what can be done with it. */
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { FocusStore } from "../../focus";
import { TokenText } from "../../parts/TokenText";
import type { Vocabulary } from "../../text/vocabulary";
import { enters } from "./Composer";
import type { Answer, Turn } from "./conversation";

interface Props {
  turn: Turn;
  versions: readonly Turn[];
  onShow: (key: number) => void;
  children?: ReactNode;
}

/** Goes through what was said instead. */
function Versions({ turn, versions, onShow }: Props) {
  const at = versions.findIndex(({ key }) => key === turn.key);
  if (versions.length < 2) return null;
  const step = (by: number, label: string, sign: string) => (
    <button
      type="button"
      className="button quiet small"
      aria-label={label}
      disabled={!versions[at + by]}
      onClick={() => onShow(versions[at + by]!.key)}
    >
      {sign}
    </button>
  );
  return (
    <span className="versions numeric" role="group" aria-label="Versions">
      {step(-1, "The version before", "‹")}
      <span aria-live="polite">
        {at + 1} / {versions.length}
      </span>
      {step(1, "The next version", "›")}
    </span>
  );
}

function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  // Browsers give the clipboard to secure pages alone.
  if (!("clipboard" in navigator)) return null;
  return (
    <button
      type="button"
      className="button quiet small"
      onClick={() => void navigator.clipboard.writeText(text).then(() => setDone(true))}
    >
      {done ? "Copied" : "Copy"}
    </button>
  );
}

export function QuestionView(props: Props & { onEdit: (text: string) => void }) {
  const { turn, onEdit } = props;
  const [text, setText] = useState<string | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = () => {
    setText(null);
    requestAnimationFrame(() => button.current?.focus());
  };
  const send = () => {
    const said = text?.trim();
    if (said) onEdit(said);
    close();
  };
  return (
    <article className="turn question" aria-label="You">
      {text === null ? (
        <p className="said">{turn.content}</p>
      ) : (
        <div className="stack tight editing">
          <textarea
            rows={1}
            value={text}
            aria-label="Say this instead"
            autoFocus
            onChange={(event) => setText(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Escape") {
                event.stopPropagation();
                close();
              }
              if (!enters(event)) return;
              event.preventDefault();
              send();
            }}
          />
          <div className="row">
            <button type="button" className="button small primary" onClick={send}>
              Send instead
            </button>
            <button type="button" className="button small" onClick={close}>
              Leave it
            </button>
          </div>
        </div>
      )}
      <div className="row deeds">
        <Versions {...props} />
        {text === null && (
          <>
            <Copy text={turn.content} />
            <button
              ref={button}
              type="button"
              className="button quiet small"
              onClick={() => setText(turn.content)}
            >
              Edit
            </button>
          </>
        )}
      </div>
    </article>
  );
}

interface AnswerProps extends Props {
  shaded: boolean;
  store: FocusStore;
  pinned: number | null;
  vocabulary: Vocabulary;
  context: number;
  onPin: (index: number) => void;
  onAgain: () => void;
}

/** Why an answer has ended, where that is not its own end. */
export function ending({ status, read, tokens }: Answer, context: number): string {
  if (status === "writing") return "answering…";
  if (status === "stopped") return "stopped by you";
  if (status === "abort") return "the server ended it";
  if (status !== "length") return "";
  return read.length + tokens.length > context
    ? "cut off: the context is full"
    : "as long as you asked for";
}

export function AnswerView(props: AnswerProps) {
  const { turn, shaded, vocabulary, context } = props;
  const answer = turn.answer!;
  const { tokens, status } = answer;
  return (
    <article className="turn" aria-label="The model" aria-busy={status === "writing"}>
      {shaded && tokens.length > 0 ? (
        <TokenText
          tokens={tokens.map(({ id, logprob }) => ({ id, shade: Math.exp(logprob) }))}
          vocabulary={vocabulary}
          label="The answer as tokens"
          store={props.store}
          pinned={props.pinned}
          onPin={props.onPin}
        />
      ) : (
        <p className="said">
          {turn.content}
          {status === "writing" && <span className="caret" aria-hidden />}
          {status === "stop" && !turn.content && <span className="muted">It said nothing.</span>}
        </p>
      )}
      {answer.problem && (
        <div className="notice problem" role="alert">
          <span>{answer.problem}</span>
        </div>
      )}
      <div className="row deeds">
        <Versions {...props} />
        {status !== "writing" && (
          <>
            <Copy text={turn.content} />
            <button type="button" className="button quiet small" onClick={props.onAgain}>
              Answer again
            </button>
          </>
        )}
        <span className="small muted">{ending(answer, context)}</span>
      </div>
    </article>
  );
}
