/** Play, the slider over the checkpoints, and where it stands: always at hand. */
import type { ReactNode } from "react";
import { Segments } from "../../parts/Segments";
import { choose } from "../../place";
import type { Player, Speed } from "./player";
import "./transport.css";

interface Props {
  steps: readonly number[];
  step: number;
  go: (step: number) => void;
  player: Player;
  speed: Speed;
  /** What is known of the step, such as its loss. */
  children: ReactNode;
}

const SPEED_NAMES = [
  ["slow", "Slow"],
  ["usual", "Usual"],
  ["fast", "Fast"],
] as const;

export function Transport({ steps, step, go, player, speed, children }: Props) {
  const index = steps.indexOf(step);
  return (
    <div className="transport" style={{ "--count": steps.length }}>
      <div className="row">
        <div className="now numeric">
          <p>
            Step <strong>{step.toLocaleString("en")}</strong>
          </p>
          <p className="muted small">{children}</p>
        </div>
        <span className="end">
          <Segments
            label="Speed"
            options={SPEED_NAMES}
            value={speed}
            onChange={(speed) => choose({ speed })}
          />
        </span>
      </div>
      <div className="lane">
        <button
          type="button"
          className="button primary icon"
          aria-label={player.playing ? "Pause" : "Play"}
          aria-keyshortcuts="Space"
          onClick={player.toggle}
        >
          <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden>
            {player.playing ? (
              <path d="M3 2h3.5v12H3zM9.5 2H13v12H9.5z" fill="currentColor" />
            ) : (
              <path d="M4 1.5v13l10-6.5z" fill="currentColor" />
            )}
          </svg>
        </button>
        <div>
          <span className="marks" aria-hidden />
          <input
            type="range"
            aria-label="Checkpoint"
            min={0}
            max={steps.length - 1}
            step={1}
            value={index}
            aria-valuetext={`step ${step}`}
            onChange={(event) => go(steps[Number(event.target.value)]!)}
          />
        </div>
      </div>
    </div>
  );
}
