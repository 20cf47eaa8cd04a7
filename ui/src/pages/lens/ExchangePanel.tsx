/** What could stand in a token's place, by what the model thought likely there. */
import type { Arrays } from "../../api/arrays";
import { Odds } from "../../parts/Odds";
import type { Vocabulary } from "../../text/vocabulary";
import { oddsAt } from "./reading";

interface Props {
  clean: Arrays;
  position: number;
  now: number;
  vocabulary: Vocabulary;
  onExchange: (id: number) => void;
  onClose: () => void;
}

const LISTED = 8;

export function ExchangePanel({ clean, position, now, vocabulary, onExchange, onClose }: Props) {
  return (
    <div
      className="card exchange stack tight"
      role="group"
      aria-label={`In place of token ${position}`}
      onKeyDown={(event) => {
        if (event.key === "Escape") onClose();
      }}
    >
      <div className="row">
        <h3>
          In place of <span className="mono">{vocabulary.label(now)}</span>
        </h3>
        <button type="button" className="button quiet small end" onClick={onClose}>
          Close
        </button>
      </div>
      <Odds
        odds={oddsAt(clean, position - 1).slice(0, LISTED)}
        vocabulary={vocabulary}
        chosen={now}
        onChoose={onExchange}
        action="Exchange it for"
      />
    </div>
  );
}
