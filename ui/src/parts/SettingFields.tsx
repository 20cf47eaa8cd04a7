/** Fields for how tokens are drawn; a page names those that it has. */
import { NumberField, Slider } from "./Field";
import { type SettingName, type Side, useSettings } from "./settings";

interface Props {
  names: readonly SettingName[];
  side?: Side;
  seedLabel?: string;
  /** Tokens that may be asked for, and tokens that there are to choose from. */
  most?: number;
  vocabularySize?: number;
}

const MOST_TOP_K = 100;
const MOST_TOKENS = 256;

export function SettingFields(props: Props) {
  const { names, side = "a", seedLabel = "Seed", most = MOST_TOKENS } = props;
  const [settings, set] = useSettings(side);
  return (
    <>
      {names.includes("temperature") && (
        <Slider
          label="Temperature"
          value={settings.temperature}
          min={0}
          max={2}
          step={0.05}
          shown={settings.temperature === 0 ? "0, likeliest" : settings.temperature.toFixed(2)}
          onChange={(value) => set("temperature", value)}
        />
      )}
      {names.includes("top_k") && (
        <Slider
          label="Top-k"
          value={settings.top_k}
          min={0}
          max={Math.min(MOST_TOP_K, props.vocabularySize ?? MOST_TOP_K)}
          step={1}
          shown={settings.top_k === 0 ? "off" : String(settings.top_k)}
          onChange={(value) => set("top_k", value)}
        />
      )}
      {names.includes("top_p") && (
        <Slider
          label="Top-p"
          value={settings.top_p}
          min={0.05}
          max={1}
          step={0.05}
          shown={settings.top_p === 1 ? "off" : settings.top_p.toFixed(2)}
          onChange={(value) => set("top_p", value)}
        />
      )}
      {names.includes("seed") && (
        <NumberField
          label={seedLabel}
          value={settings.seed}
          min={0}
          max={2 ** 32 - 1}
          onChange={(value) => set("seed", value)}
        />
      )}
      {names.includes("max_tokens") && (
        <NumberField
          label="Tokens at most"
          value={settings.max_tokens}
          min={1}
          max={Math.min(most, MOST_TOKENS)}
          onChange={(value) => set("max_tokens", value)}
        />
      )}
    </>
  );
}
