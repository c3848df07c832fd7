// The sizes of the course's world. `export.py` refuses a world that has others.

enum {
  V = 14,             // words; 0 is <eos>
  WORDS = V - 1,      // words that do not end a response
  T = 5,              // tokens of a response
  PROMPTS = 2,        // of one token each
  D = 32,             // n_embd
  H = 2,              // n_head
  L = 2,              // n_layer
  F = 4 * D,          // width of the MLP
  ROW = 16,           // V rounded up to four numbers at a time
  MAX_BATCH = 256,
};
#define LAYER_NORM_EPSILON 1e-5f

// Response y = w_1 … w_t <eos> has a number as in rlhf_lab.exact.flatten: by length, then alphabetically.
enum {
  PREFIXES = 1 + WORDS + WORDS * WORDS + WORDS * WORDS * WORDS + WORDS * WORDS * WORDS * WORDS,
  RESPONSES = PREFIXES + WORDS * WORDS * WORDS * WORDS * WORDS,
  PADDED = (RESPONSES + 3) / 4 * 4,  // to take four at a time
  SUBTREE = 2 + WORDS + WORDS * WORDS + WORDS * WORDS * WORDS,  // prompt, first word, and all prefixes behind it
  NODES = SUBTREE > PROMPTS + MAX_BATCH * (T - 1) ? SUBTREE : PROMPTS + MAX_BATCH * (T - 1),
};
static const int first_prefix[T] = {0, 1, 1 + WORDS, 1 + WORDS + WORDS * WORDS, 1 + WORDS + WORDS * WORDS + WORDS * WORDS * WORDS};
