/** Where one writes: Enter sends, Shift and Enter begin a line, Escape stops the answer. */
import { type KeyboardEvent, type Ref, useState } from "react";

interface Props {
  writing: boolean;
  used: number;
  context: number;
  /** What could be asked, while nothing was. */
  suggestion: string;
  most: number;
  box: Ref<HTMLTextAreaElement>;
  onSend: (text: string) => void;
  onStop: () => void;
}

/** Sends on Enter; not while an input method still composes a character. */
export function enters(event: KeyboardEvent): boolean {
  return event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing;
}

export function Composer(props: Props) {
  const { writing, used, context, suggestion, box } = props;
  const [text, setText] = useState("");
  const send = (said: string) => {
    if (!said.trim() || writing) return;
    props.onSend(said.trim());
    setText("");
  };
  const press = (event: KeyboardEvent) => {
    if (!enters(event)) return;
    event.preventDefault();
    send(text);
  };
  return (
    <div className="composer">
      <div className="write">
        <textarea
          ref={box}
          rows={1}
          value={text}
          aria-label="Message"
          placeholder={suggestion ? `Ask something, such as “${suggestion}”` : "Ask something"}
          maxLength={props.most}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={press}
        />
        {writing ? (
          <button type="button" className="button primary" onClick={props.onStop}>
            Stop
          </button>
        ) : (
          <button
            type="button"
            className="button primary"
            disabled={!text.trim()}
            onClick={() => send(text)}
          >
            Send
          </button>
        )}
      </div>
      <div className="row small muted below">
        <span className="meter" style={{ "--share": Math.min(used / context, 1) }} aria-hidden />
        <span className="numeric">
          {used} of {context} tokens of context
        </span>
        <span className="end keys">
          <kbd>Enter</kbd> sends, <kbd>Shift Enter</kbd> begins a line, <kbd>Esc</kbd> stops
        </span>
      </div>
    </div>
  );
}
