// gpt2.py: a GPT-2, forwards and backwards, on the nodes of a tree.
//
// A batch of responses is a tree of prefixes. 128 responses of 5 tokens have 640 positions, but fewer than 200 different
// prefixes when training starts and 20 when the policy has collapsed. The model reads each prefix once, and the gradients
// of all responses that share it are added up there. This is exact, and it is why a page is faster than torch.

typedef struct {  // in the order of named_parameters(), then the value head's
  float wte[V][D], wpe[T + 1][D];
  struct {
    float ln_1_weight[D], ln_1_bias[D], c_attn_weight[D][3 * D], c_attn_bias[3 * D], attn_proj_weight[D][D], attn_proj_bias[D];
    float ln_2_weight[D], ln_2_bias[D], c_fc_weight[D][F], c_fc_bias[F], mlp_proj_weight[F][D], mlp_proj_bias[D];
  } h[L];
  float ln_f_weight[D], ln_f_bias[D], value_weight[D], value_bias;
} __attribute__((aligned(16))) Weights;
enum { WEIGHTS = __builtin_offsetof(Weights, value_bias) / sizeof(float) + 1 };

// --- the tree: parents before children; a node is what has been said so far, and its last token --------------------
static int nodes, token[NODES], parent[NODES], depth[NODES], prefix[NODES], prompt_of[NODES], child[NODES][V];

static int add_node(int word, int up) {
  int i = nodes++;
  token[i] = word, parent[i] = up, depth[i] = depth[up] + 1, prompt_of[i] = prompt_of[up];
  prefix[i] = prefix[up] * WORDS + word - 1;
  for (int v = 0; v < V; v++) child[i][v] = -1;
  return child[up][word] = i;
}
static int add_prompt(int prompt) {
  int i = nodes++;
  token[i] = 1 + prompt, parent[i] = -1, depth[i] = prefix[i] = 0, prompt_of[i] = prompt;
  for (int v = 0; v < V; v++) child[i][v] = -1;
  return i;
}

// --- what the forward pass keeps for the backward pass: a row per node ---------------------------------------------
#define ROWS(name, width) static float name[NODES][width] __attribute__((aligned(16)))
#define LAYERS(name, width) static float name[L][NODES][width] __attribute__((aligned(16)))
static float residual[L + 1][NODES][D] __attribute__((aligned(16)));
LAYERS(ln_1, D);
LAYERS(qkv, 3 * D);
LAYERS(attended, D);
LAYERS(middle, D);  // the residual stream between attention and MLP
LAYERS(ln_2, D);
LAYERS(fc, F);
LAYERS(activated, F);
static float attention[L][NODES][H][T];  // to itself, its parent, … its prompt
ROWS(hidden, D);
ROWS(logprobs, ROW);  // log π(v | node)
static float values[NODES];
ROWS(sum, F);  // a sum on its way into the residual stream

// the queries, keys and values of head h
static inline float *part(int l, int i, int which, int h) { return qkv[l][i] + which * D + h * (D / H); }
static inline float dot(const float *a, const float *b) {
  f4 acc = four(0);
  for (int d = 0; d < D / H; d += 4) acc += load(a + d) * load(b + d);
  return sum4(acc);
}
static inline void add_scaled(float *to, float scale, const float *from) {
  for (int d = 0; d < D / H; d += 4) store(to + d, load(to + d) + scale * load(from + d));
}
static const float root = 0.25f;  // 1/√(D/H)

static void attend(int l, int i, int h) {
  float score[T], top = -1e30f, total = 0, *out = attended[l][i] + h * (D / H);
  for (int j = i, k = 0; j >= 0; j = parent[j], k++) {
    score[k] = root * dot(part(l, i, 0, h), part(l, j, 1, h));
    top = score[k] > top ? score[k] : top;
  }
  for (int k = 0; k <= depth[i]; k++) total += score[k] = exp1(score[k] - top);
  zero(out, D / H * sizeof(float));
  for (int j = i, k = 0; j >= 0; j = parent[j], k++) add_scaled(out, attention[l][i][h][k] = score[k] / total, part(l, j, 2, h));
}

static void add(float *out, const float *a, const float *b, int n) {
  for (int i = 0; i < n; i += 4) store(out + i, load(a + i) + load(b + i));
}

static void unembed(const Weights *w, int a, int n) {
  static float wte_transposed[D][ROW] __attribute__((aligned(16)));
  for (int v = 0; v < V; v++)
    for (int d = 0; d < D; d++) wte_transposed[d][v] = w->wte[v][d];
  affine(logprobs[a], hidden[a], wte_transposed[0], 0, n, D, ROW);
  for (int i = a; i < a + n; i++) {
    float *x = logprobs[i], top = x[0], total = 0;
    for (int v = 1; v < V; v++) top = x[v] > top ? x[v] : top;
    x[V] = x[V + 1] = -1e30f;  // no words
    for (int v = 0; v < ROW; v += 4) total += sum4(exp4(load(x + v) - top));
    float normaliser = top + (float)log1(total);
    for (int v = 0; v < V; v++) x[v] -= normaliser;
    values[i] = w->value_bias;
    for (int d = 0; d < D; d++) values[i] += hidden[i][d] * w->value_weight[d];
  }
}

// log π and values of the nodes from a on; those before must have been read
static void forward(const Weights *w, int a) {
  int n = nodes - a;
  for (int i = a; i < nodes; i++) add(residual[0][i], w->wte[token[i]], w->wpe[depth[i]], D);
  for (int l = 0; l < L; l++) {
    layer_norm(ln_1[l][a], residual[l][a], w->h[l].ln_1_weight, w->h[l].ln_1_bias, n);
    affine(qkv[l][a], ln_1[l][a], w->h[l].c_attn_weight[0], w->h[l].c_attn_bias, n, D, 3 * D);
    for (int i = a; i < nodes; i++)
      for (int h = 0; h < H; h++) attend(l, i, h);
    affine(sum[a], attended[l][a], w->h[l].attn_proj_weight[0], w->h[l].attn_proj_bias, n, D, D);
    add(middle[l][a], residual[l][a], sum[a], n * D);
    layer_norm(ln_2[l][a], middle[l][a], w->h[l].ln_2_weight, w->h[l].ln_2_bias, n);
    affine(fc[l][a], ln_2[l][a], w->h[l].c_fc_weight[0], w->h[l].c_fc_bias, n, D, F);
    for (int i = 0; i < n * F; i += 4) store(activated[l][a] + i, gelu(load(fc[l][a] + i)));
    affine(sum[a], activated[l][a], w->h[l].mlp_proj_weight[0], w->h[l].mlp_proj_bias, n, F, D);
    add(residual[l + 1][a], middle[l][a], sum[a], n * D);
  }
  layer_norm(hidden[a], residual[L][a], w->ln_f_weight, w->ln_f_bias, n);
  unembed(w, a, n);
}

// --- backwards ------------------------------------------------------------------------------------------------------
ROWS(dlogits, ROW);  // the loss's gradients at the nodes, written by ppo.h
static float dvalues[NODES];
ROWS(dresidual, D);
ROWS(dnarrow, D);
ROWS(dwide, F);
static float dqkv[NODES][3 * D] __attribute__((aligned(16)));

static void attend_back(int l, int i, int h) {
  const float *dout = dnarrow[i] + h * (D / H), *p = attention[l][i][h];
  float dp[T], mean = 0;
  for (int j = i, k = 0; j >= 0; j = parent[j], k++) {
    dp[k] = dot(dout, part(l, j, 2, h));
    mean += p[k] * dp[k];
    add_scaled(dqkv[j] + 2 * D + h * (D / H), p[k], dout);
  }
  for (int j = i, k = 0; j >= 0; j = parent[j], k++) {
    float dscore = root * p[k] * (dp[k] - mean);
    add_scaled(dqkv[i] + h * (D / H), dscore, part(l, j, 1, h));
    add_scaled(dqkv[j] + D + h * (D / H), dscore, part(l, i, 0, h));
  }
}

static void unembed_back(const Weights *w, Weights *g) {
  static float wte[ROW][D] __attribute__((aligned(16))), dwte[ROW][D] __attribute__((aligned(16)));
  zero(dwte, sizeof dwte);
  __builtin_memcpy(wte, w->wte, sizeof w->wte);
  affine(dnarrow[0], dlogits[0], wte[0], 0, nodes, ROW, D);
  affine_weights(dwte[0], 0, dlogits[0], hidden[0], nodes, ROW, D);
  __builtin_memcpy(g->wte, dwte, sizeof g->wte);
  for (int i = 0; i < nodes; i++) {
    g->value_bias += dvalues[i];
    for (int d = 0; d < D; d++) dnarrow[i][d] += dvalues[i] * w->value_weight[d], g->value_weight[d] += dvalues[i] * hidden[i][d];
  }
}

// g = gradient of the loss whose gradients at the nodes are dlogits and dvalues
static void backward(const Weights *w, Weights *g) {
  int n = nodes;
  zero(g, sizeof *g), zero(dresidual, n * sizeof dresidual[0]);
  unembed_back(w, g);
  layer_norm_back(dresidual[0], g->ln_f_weight, g->ln_f_bias, dnarrow[0], residual[L][0], w->ln_f_weight, n);
  for (int l = L - 1; l >= 0; l--) {
    affine_weights(g->h[l].mlp_proj_weight[0], g->h[l].mlp_proj_bias, activated[l][0], dresidual[0], n, F, D);
    affine_input(dwide[0], dresidual[0], w->h[l].mlp_proj_weight[0], n, F, D);
    for (int i = 0; i < n * F; i += 4) store(dwide[0] + i, load(dwide[0] + i) * gelu_slope(load(fc[l][0] + i)));
    affine_weights(g->h[l].c_fc_weight[0], g->h[l].c_fc_bias, ln_2[l][0], dwide[0], n, D, F);
    affine_input(dnarrow[0], dwide[0], w->h[l].c_fc_weight[0], n, D, F);
    layer_norm_back(dresidual[0], g->h[l].ln_2_weight, g->h[l].ln_2_bias, dnarrow[0], middle[l][0], w->h[l].ln_2_weight, n);
    affine_weights(g->h[l].attn_proj_weight[0], g->h[l].attn_proj_bias, attended[l][0], dresidual[0], n, D, D);
    affine_input(dnarrow[0], dresidual[0], w->h[l].attn_proj_weight[0], n, D, D);
    zero(dqkv, n * sizeof dqkv[0]);
    for (int i = 0; i < n; i++)
      for (int h = 0; h < H; h++) attend_back(l, i, h);
    affine_weights(g->h[l].c_attn_weight[0], g->h[l].c_attn_bias, ln_1[l][0], dqkv[0], n, D, 3 * D);
    affine_input(dnarrow[0], dqkv[0], w->h[l].c_attn_weight[0], n, D, 3 * D);
    layer_norm_back(dresidual[0], g->h[l].ln_1_weight, g->h[l].ln_1_bias, dnarrow[0], residual[l][0], w->h[l].ln_1_weight, n);
  }
  for (int i = 0; i < n; i++) {
    add(g->wte[token[i]], g->wte[token[i]], dresidual[i], D);
    add(g->wpe[depth[i]], g->wpe[depth[i]], dresidual[i], D);
  }
}
