/** How well each rung does on text that it has not seen, and on the prompt: the ladder in one picture. */
import { useRef } from "react";
import type { Drawing } from "../../parts/Canvas";
import { Export } from "../../parts/Export";
import { TableAlternative } from "../../parts/Table";
import { type Guesses, meanNats } from "./looking";
import { type Ladder, MODELS, TOLD } from "./rungs";
import { Stairs } from "./Stairs";

interface Props {
  ladder: Ladder;
  guesses: Guesses;
  prompt: string;
  entropy: number | null;
}

export function Losses({ ladder, guesses, prompt, entropy }: Props) {
  const drawing = useRef<Drawing>(null);
  const steps = MODELS.map((model) => {
    const { value } = guesses[model];
    return {
      name: TOLD[model].title,
      short: TOLD[model].short,
      loss: ladder.rungs[model]?.validation_loss ?? null,
      here: value ? meanNats(value) : null,
    };
  });
  const rows = () =>
    MODELS.map((model, index) => {
      const { name, loss, here } = steps[index]!;
      return [
        name,
        ladder.rungs[model]?.parameters.toLocaleString("en") ?? "–",
        loss?.toFixed(3) ?? "–",
        loss !== null && entropy !== null ? (loss - entropy).toFixed(3) : "–",
        here?.toFixed(3) ?? "–",
      ];
    });
  return (
    <section className="stack">
      <div className="row">
        <h2>Loss on text that none of them has seen</h2>
        <span className="end">
          <Export
            name="ladder"
            drawing={drawing}
            json={() => ({ ladder: ladder.name, entropy_nats: entropy, prompt, rungs: steps })}
          />
        </span>
      </div>
      <p className="muted small">
        In nats per token: how surprised a model is, on average. Lower is better; each bar also says
        by how much its idea lowers it. {entropy !== null && <Floor entropy={entropy} />} The dot is
        the loss on your prompt alone.
      </p>
      <Stairs steps={steps} floor={entropy} drawing={drawing} />
      <TableAlternative
        caption="Loss of each rung, nats per token"
        columns={["rung", "parameters", "validation loss", "over the entropy", "on the prompt"]}
        rows={rows}
      />
    </section>
  );
}

function Floor({ entropy }: { entropy: number }) {
  return (
    <>
      The dashed line, {entropy.toFixed(3)}, is the entropy of the corpus: no model gets under it.
    </>
  );
}
