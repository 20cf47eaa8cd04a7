/** What can be taken from one text's run and put into the other's. */
export const SITES = {
  residual: {
    title: "Whole state",
    of: "state before",
    sentence:
      "Each cell: the whole state that a layer reads at one token, taken from the first text. At first only the exchanged token knows the answer. Follow the blue down to the last token, where the answer is said: where it changes column, attention has carried it.",
  },
  head_out: {
    title: "Attention",
    of: "attention of",
    sentence:
      "Each cell: what the attention of a layer adds at one token, taken from the first text: what it fetched from other tokens.",
  },
  mlp_out: {
    title: "MLP",
    of: "MLP of",
    sentence:
      "Each cell: what the MLP of a layer adds at one token, taken from the first text: what it made of what is known there.",
  },
} as const;

export type Site = keyof typeof SITES;
export const SITE_NAMES = Object.keys(SITES) as Site[];
