/** Beside a conversation: how answers are drawn, and the token that is looked at. */
import type { Subject } from "../../api/queries";
import { NumberField, Slider } from "../../parts/Field";
import { Odds } from "../../parts/Odds";
import { useSettings } from "../prompt/settings";
import type { Written } from "../prompt/writing";

const ODDS_SHOWN = 6;

interface Props {
  subject: Subject;
  shaded: boolean;
  token: Written | undefined;
  system: string;
  /** Undefined: the form that the model has learned has no place for it. */
  onSystem: ((system: string) => void) | undefined;
}

export function Side({ subject: { run, vocabulary }, shaded, token, system, onSystem }: Props) {
  const [settings, set] = useSettings("a");
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
        <Slider
          label="Temperature"
          value={settings.temperature}
          min={0}
          max={2}
          step={0.05}
          shown={settings.temperature === 0 ? "likeliest" : settings.temperature.toFixed(2)}
          onChange={(value) => set("temperature", value)}
        />
        <Slider
          label="Top-p"
          value={settings.top_p}
          min={0.05}
          max={1}
          step={0.05}
          shown={settings.top_p === 1 ? "off" : settings.top_p.toFixed(2)}
          onChange={(value) => set("top_p", value)}
        />
        <NumberField
          label="Seed"
          value={settings.seed}
          min={0}
          max={2 ** 32 - 1}
          onChange={(value) => set("seed", value)}
        />
        <NumberField
          label="Tokens at most"
          value={settings.max_tokens}
          min={1}
          max={Math.min(run.max_tokens, 256)}
          onChange={(value) => set("max_tokens", value)}
        />
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
