// ppo.py, rewards.py, entropies.py, rollout.py and trainer.py: one iteration of PPO, in the order in which it happens.

static struct {  // PPOConfig's; what is not here has no choice in the page: KL mode "kl", one minibatch
  double eta, beta, lr, adam_eps, cliprange, cliprange_value, vf_coef, gamma, lam, batch_size, epochs;
} config = {0, 0, 1e-3, 1e-5, 0.2, 0.2, 0.1, 1.0, 0.95, 128, 4};

static struct {  // all that a run is made of, besides its random numbers: copy this to keep a run, or to fork it
  Weights policy, exp_avg, exp_avg_sq;
  double steps;
} state;
static Weights sft, gradient;

// --- sampling.py --------------------------------------------------------------------------------------------------
static double uniforms[T][MAX_BATCH];  // in [0, 1); the page draws them as torch does
static int responses[MAX_BATCH][T], lengths[MAX_BATCH], node_of[MAX_BATCH][T], number_of[MAX_BATCH];
static float old_logprobs[MAX_BATCH][T], old_values[MAX_BATCH][T];

static int draw(const float *logp, double u) {
  double cdf[V], total = 0;
  for (int v = 0; v < V; v++) cdf[v] = total += exp1(logp[v]);
  int word = 0;
  while (word < V - 1 && cdf[word] <= u * total) word++;
  return word;
}

static void sample(int B) {
  int at[MAX_BATCH];  // the node that each response has reached; −1 when it has ended
  nodes = 0;
  for (int x = 0; x < PROMPTS; x++) add_prompt(x);
  for (int b = 0; b < B; b++) at[b] = b % PROMPTS, lengths[b] = 0;
  for (int t = 0, unread = 0; t < T; t++) {
    forward(&state.policy, unread);
    unread = nodes;
    for (int b = 0; b < B; b++) {
      responses[b][t] = 0;
      if (at[b] < 0) continue;
      int i = node_of[b][t] = at[b], word = responses[b][t] = draw(logprobs[i], uniforms[t][b]);
      old_logprobs[b][t] = logprobs[i][word], old_values[b][t] = values[i];
      lengths[b] = t + 1, number_of[b] = response_number(i, word);
      at[b] = !word || t == T - 1 ? -1 : child[i][word] >= 0 ? child[i][word] : add_node(word, i);
    }
  }
}

// --- rewards.py and ppo.py ------------------------------------------------------------------------------------------
static float advantages[MAX_BATCH][T], returns[MAX_BATCH][T], kls[MAX_BATCH][T];

// r_t = −η·kl_t, + the score on the last token; δ_t = r_t + γ·V_{t+1} − V_t; A_t = δ_t + γλ·A_{t+1}
static void rewards_and_advantages(int b) {
  float ahead = 0, next_value = 0, gamma = (float)config.gamma, lam = (float)config.lam;
  for (int t = lengths[b] - 1; t >= 0; t--) {
    int i = node_of[b][t], x = prompt_of[i];
    kls[b][t] = old_logprobs[b][t] - ref_next[x][first_prefix[t] + prefix[i]][responses[b][t]];
    float reward = (float)-config.eta * kls[b][t] + (t == lengths[b] - 1 ? scores[x][number_of[b]] : 0);
    ahead = reward + gamma * next_value - old_values[b][t] + gamma * lam * ahead;
    advantages[b][t] = ahead, returns[b][t] = ahead + old_values[b][t];
    next_value = old_values[b][t];
  }
}

// masked_whiten: (A − mean)/√(variance + 1e-8) over the tokens of the batch; the variance divides by n − 1
static void whiten(int B, int n) {
  double mean = 0, squares = 0;
  for (int b = 0; b < B; b++)
    for (int t = 0; t < lengths[b]; t++) mean += advantages[b][t] / n;
  for (int b = 0; b < B; b++)
    for (int t = 0; t < lengths[b]; t++) squares += (advantages[b][t] - mean) * (advantages[b][t] - mean);
  double scale = 1 / __builtin_sqrt(squares / (n - 1) + 1e-8);
  for (int b = 0; b < B; b++)
    for (int t = 0; t < lengths[b]; t++) advantages[b][t] = (float)((advantages[b][t] - mean) * scale);
}

// --- StepStats: all but the losses describe the responses before the update ------------------------------------------
static struct {
  double score, kl, entropy, reward, length, distinct, top_share, policy_loss, value_loss, clip_fraction, approx_kl, gold, nodes;
} stats;
static int copies[MAX_BATCH];  // how often a response was said; 0 where an earlier row says the same

static void count_responses(int B) {
  zero(copies, sizeof copies);
  for (int b = 0; b < B; b++) {
    int first = 0, same = 0;
    for (; same < T; first += same < T) {
      for (same = 0; same < T && responses[first][same] == responses[b][same];) same++;
    }
    stats.distinct += !copies[first]++;
  }
  for (int b = 0; b < B; b++) stats.top_share = copies[b] > stats.top_share * B ? (double)copies[b] / B : stats.top_share;
}

static void describe_batch(int B) {
  zero(&stats, sizeof stats);
  for (int b = 0; b < B; b++) {
    int x = prompt_of[node_of[b][0]];
    stats.score += scores[x][number_of[b]] / B, stats.gold += golds[x][number_of[b]] / B, stats.length += (double)lengths[b] / B;
    for (int t = 0; t < lengths[b]; t++) stats.kl += kls[b][t] / B, stats.entropy -= old_logprobs[b][t] / B;
  }
  stats.reward = stats.score - config.eta * stats.kl, stats.nodes = nodes;
  count_responses(B);
}

static void rollout(void) {
  int B = (int)config.batch_size, n = 0;
  sample(B);
  for (int b = 0; b < B; b++) rewards_and_advantages(b), n += lengths[b];
  describe_batch(B);
  whiten(B, n);
}

// --- the losses, each a mean over the n tokens; their gradients at the nodes go into dlogits and dvalues ---------------
static inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// max(−A·ρ, −A·clamp(ρ, 1 − clip, 1 + clip)), ρ = π/π_old
static void policy_loss(int b, int t, int n) {
  int i = node_of[b][t], word = responses[b][t];
  float A = advantages[b][t], log_ratio = logprobs[i][word] - old_logprobs[b][t], ratio = exp1(log_ratio), clip = (float)config.cliprange;
  float unclipped = -A * ratio, clipped = -A * clamp(ratio, 1 - clip, 1 + clip);
  int took_clipped = clipped > unclipped;
  stats.policy_loss += (took_clipped ? clipped : unclipped) / n / config.epochs, stats.clip_fraction += took_clipped / (n * config.epochs);
  stats.approx_kl += 0.5 * log_ratio * log_ratio / n / config.epochs;
  if (took_clipped) return;  // no gradient
  float dlogprob = unclipped / n;
  for (int v = 0; v < V; v++) dlogits[i][v] += dlogprob * ((v == word) - exp1(logprobs[i][v]));
}

// ½·max((V − R)², (clamp(V, V_old ± clip) − R)²)
static void value_loss(int b, int t, int n) {
  int i = node_of[b][t];
  float clip = (float)config.cliprange_value, near = clamp(values[i], old_values[b][t] - clip, old_values[b][t] + clip);
  float error = values[i] - returns[b][t], clipped_error = near - returns[b][t];
  int took_clipped = clipped_error * clipped_error > error * error;
  stats.value_loss += 0.5 * (took_clipped ? clipped_error * clipped_error : error * error) / n / config.epochs;
  if (!took_clipped) dvalues[i] += (float)config.vf_coef * error / n;
}

// −β·H(π(·|s)), whose gradient at a logit is β·π·(log π + H)
static void entropy_bonus(int i, int n) {
  float H = 0;
  for (int v = 0; v < V; v++) H -= exp1(logprobs[i][v]) * logprobs[i][v];
  for (int v = 0; v < V; v++) dlogits[i][v] += (float)config.beta / n * exp1(logprobs[i][v]) * (logprobs[i][v] + H);
}

static void losses(void) {
  int B = (int)config.batch_size, n = 0;
  for (int b = 0; b < B; b++) n += lengths[b];
  zero(dlogits, nodes * sizeof dlogits[0]), zero(dvalues, nodes * sizeof dvalues[0]);
  for (int b = 0; b < B; b++)
    for (int t = 0; t < lengths[b]; t++) {
      policy_loss(b, t, n), value_loss(b, t, n);
      if (config.beta > 0) entropy_bonus(node_of[b][t], n);
    }
  backward(&state.policy, &gradient);
}

// --- adam.py ----------------------------------------------------------------------------------------------------------
static void adam(void) {
  float *w = (float *)&state.policy, *m = (float *)&state.exp_avg, *v = (float *)&state.exp_avg_sq, *g = (float *)&gradient;
  double power1 = 1, power2 = 1;
  state.steps++;
  for (int k = 0; k < state.steps; k++) power1 *= 0.9, power2 *= 0.999;
  float rate = (float)(config.lr / (1 - power1)), root = (float)__builtin_sqrt(1 - power2), eps = (float)config.adam_eps;
  for (int i = 0; i < WEIGHTS; i++) {
    m[i] += 0.1f * (g[i] - m[i]);
    v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
    w[i] -= rate * m[i] / (__builtin_sqrtf(v[i]) / root + eps);
  }
}

// --- trainer.py ---------------------------------------------------------------------------------------------------------
static void start(void) {
  zero(&state, sizeof state);
  __builtin_memcpy(&state.policy, &sft, sizeof sft);
  zero(state.policy.value_weight, sizeof state.policy.value_weight), state.policy.value_bias = 0;
}

// An iteration happens whole or not at all: 0, and the state as it was, if a loss or a weight is not finite.
static int iterate(void) {
  static __typeof__(state) before;
  __builtin_memcpy(&before, &state, sizeof state);
  rollout();
  for (int epoch = 0; epoch < (int)config.epochs; epoch++) {
    if (epoch) forward(&state.policy, 0);  // sampling was the first epoch's forward pass
    losses();
    adam();
  }
  double total = stats.policy_loss + stats.value_loss;
  for (int i = 0; i < WEIGHTS; i++) total += ((float *)&state.policy)[i];
  int finite = total - total == 0;
  if (!finite) __builtin_memcpy(&state, &before, sizeof state);
  return finite;
}
