/** Beside a conversation: how answers are drawn, and the token that is looked at. */
import type { Subject } from "../../api/queries";
import { Odds } from "../../parts/Odds";
import { SettingFields } from "../../parts/SettingFields";
import type { SettingName } from "../../parts/settings";
import type { Written } from "../prompt/writing";

const ODDS_SHOWN = 6;
const SETTINGS: readonly SettingName[] = ["temperature", "top_p", "seed", "max_tokens"];

interface Props {
  subject: Subject;
  shaded: boolean;
  token: Written | undefined;
  system: string;
  /** Undefined: the form that the model has learned has no place for it. */
  onSystem: ((system: string) => void) | undefined;
}

export function Side({ subject: { run, vocabulary }, shaded, token, system, onSystem }: Props) {
  return (
    <>
      {shaded && (
        <section className="stack tight looked" aria-label="Token">
          {token ? (
            <>
              <h3>
                In the place of <span className="mono">{vocabulary.label(token.id)}</span>
              </h3>
              <Odds
                odds={token.alternatives.slice(0, ODDS_SHOWN)}
                vocabulary={vocabulary}
                chosen={token.id}
              />
            </>
          ) : (
            <p className="muted small">
              The darker a token, the surer the model was of it. Point at one to see what else it
              could have said; press it to keep that here.
            </p>
          )}
        </section>
      )}
      <div className="settings">
        <SettingFields names={SETTINGS} most={run.max_tokens} />
      </div>
      <p className="muted small">Another answer to a question is drawn with the next seed.</p>
      {onSystem ? (
        <label className="field">
          <span>Told beforehand (system message)</span>
          <textarea
            rows={2}
            className="system"
            value={system}
            maxLength={run.max_prompt_bytes}
            onChange={(event) => onSystem(event.target.value)}
          />
        </label>
      ) : (
        <p className="muted small">
          This model has learned single questions: it reads the last one alone.
        </p>
      )}
    </>
  );
}
