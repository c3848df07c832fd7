// exact.py and tree.py: all responses at once. Where Python has float64, here float32 numbers are added up in float64.

static float ref_logprobs[PROMPTS][PADDED] __attribute__((aligned(16)));  // log π_ref(y)
static float scores[PROMPTS][PADDED] __attribute__((aligned(16)));        // the reward model's; from the course's tables
static float golds[PROMPTS][PADDED] __attribute__((aligned(16)));         // the gold score; from there, too
static float live_logprobs[PADDED] __attribute__((aligned(16)));          // log π(y), of the policy that was read last
static float weight[PADDED] __attribute__((aligned(16)));                 // of each response in the means below
static float ref_next[PROMPTS][PREFIXES][V];                                 // log π_ref(v | prefix)

// the number of the response that ends with this word behind this node
static int response_number(int node, int word) {
  int number = first_prefix[depth[node]];
  return depth[node] < T - 1 ? number + prefix[node] : number + prefix[node] * V + word;
}

// log π(y) of every response to a prompt: one subtree behind each first word after the other
static void sequence_logprobs(const Weights *w, int prompt, float *out, float (*next)[V]) {
  static double said[NODES];  // log π of what the node has said so far
  for (int first = 1; first < V; first++) {
    nodes = 0;
    add_node(first, add_prompt(prompt));
    for (int i = 1; depth[i] < T - 1; i++)
      for (int v = 1; v < V; v++) add_node(v, i);
    forward(w, 0);
    for (int i = 0; i < nodes; i++) {
      said[i] = i ? said[parent[i]] + logprobs[parent[i]][token[i]] : 0;
      for (int v = 0; v < (depth[i] < T - 1 ? 1 : V); v++) out[response_number(i, v)] = (float)(said[i] + logprobs[i][v]);
      for (int v = 0; next && v < V; v++) next[first_prefix[depth[i]] + prefix[i]][v] = logprobs[i][v];
    }
  }
}

// --- means over all responses -----------------------------------------------------------------------------------------
enum { MASS, LOGPROB, REF_LOGPROB, SCORE, GOLD, DISTINCT, MEANS };
static double means[MEANS];  // of log π, log π_ref, … under π; MASS is what π had to be divided by
enum { TOP = 10 };
static int top_index[TOP];
static float top_share[TOP];

// `weight` holds log π(y) up to a constant. Turn it into π(y) up to a factor, and take the means. Blocks of 1,024 responses are added up in float32, the blocks in float64.
static void take_means(int prompt) {
  f4 four_best = four(-1e30f);
  for (int y = 0; y < PADDED; y += 4) four_best = larger(four_best, load(weight + y));
  float best = four_best[0];
  for (int k = 1; k < 4; k++) best = four_best[k] > best ? four_best[k] : best;
  zero(means, sizeof means);
  for (int block = 0; block < PADDED; block += 1024) {
    f4 mass = four(0), own = mass, ref = mass, score = mass, gold = mass;
    for (int y = block; y < PADDED && y < block + 1024; y += 4) {
      f4 logit = load(weight + y) - best, p = exp4(logit);
      store(weight + y, p);
      mass += p, own += where(p > 0, p * logit, p), ref += p * load(ref_logprobs[prompt] + y);
      score += p * load(scores[prompt] + y), gold += p * load(golds[prompt] + y);
    }
    means[MASS] += sum4(mass), means[LOGPROB] += sum4(own), means[REF_LOGPROB] += sum4(ref);
    means[SCORE] += sum4(score), means[GOLD] += sum4(gold);
  }
  for (int m = MASS + 1; m < MEANS; m++) means[m] /= means[MASS];
  means[LOGPROB] -= log1(means[MASS]);
}

// The k most probable. Of equals, the one that π_SFT says more often; of those, the first.
static void find_top(int prompt, int k) {
  const float *ref = ref_logprobs[prompt];
  for (int i = 0; i < k; i++) top_share[i] = 0, top_index[i] = -1;
  for (int y = 0; y < RESPONSES; y++) {
    if (weight[y] < top_share[k - 1] || weight[y] == 0) continue;
    int place = k;
    for (; place > 0; place--) {
      float above = top_share[place - 1];
      if (weight[y] < above || (weight[y] == above && ref[y] <= ref[top_index[place - 1]])) break;
    }
    if (place == k) continue;
    for (int i = k - 1; i > place; i--) top_share[i] = top_share[i - 1], top_index[i] = top_index[i - 1];
    top_share[place] = weight[y], top_index[place] = y;
  }
  for (int i = 0; i < k; i++) top_share[i] /= (float)means[MASS];
}

// how many of `draws` responses differ, in the mean: Σ_y 1 − (1 − π(y))^draws
static double expected_distinct(int draws) {
  d2 met = {0, 0};
  for (int y = 0; y < PADDED; y += 2) {
    d2 missed = {1, 1}, power = 1 - (d2){weight[y], weight[y + 1]} / means[MASS];
    for (int n = draws; n; n >>= 1, power *= power)
      if (n & 1) missed *= power;
    met += 1 - missed;
  }
  return met[0] + met[1];
}

static void describe(int prompt, int k, int draws) {
  take_means(prompt);
  if (k) find_top(prompt, k);
  if (draws) means[DISTINCT] = expected_distinct(draws);
}

// π*(y) = π_ref(y)^(η/τ)·exp(r(y)/τ)/Z, with τ = η + β; r is the reward model's score or the gold score. For τ = 0 all
// mass lies on the first response of the highest r.
static void optimum(int prompt, int of_gold, double eta, double beta, int k, int draws) {
  const float *ref = ref_logprobs[prompt], *r = of_gold ? golds[prompt] : scores[prompt];
  double tau = eta + beta;
  float a = tau > 0 ? (float)(eta / tau) : 0, b = tau > 0 ? (float)(1 / tau) : 0;
  for (int y = 0; y < PADDED; y += 4) store(weight + y, a * load(ref + y) + b * load(r + y));
  for (int y = RESPONSES; y < PADDED; y++) weight[y] = -1e30f;
  if (!(tau > 0)) {
    int best = 0;
    for (int y = 1; y < RESPONSES; y++) best = r[y] > r[best] ? y : best;
    for (int y = 0; y < PADDED; y++) weight[y] = y == best ? 0 : -1e30f;
  }
  describe(prompt, k, draws);
}

// E[score], E[gold], KL(π ‖ π_ref) and H(π) of the policy whose log π(y) are in live_logprobs
static void evaluate(int prompt, int k, int draws) {
  __builtin_memcpy(weight, live_logprobs, sizeof weight);
  for (int y = RESPONSES; y < PADDED; y++) weight[y] = -1e30f;
  describe(prompt, k, draws);
}
