// What a library would bring: four numbers at a time, exp, log, matrix products, layer norm, GELU.

typedef float f4 __attribute__((vector_size(16)));
typedef int i4 __attribute__((vector_size(16)));
typedef double d2 __attribute__((vector_size(16)));

static inline f4 four(float a) { return (f4){a, a, a, a}; }
static inline float sum4(f4 a) { return (a[0] + a[1]) + (a[2] + a[3]); }
static inline f4 load(const float *a) { return *(const f4 *)a; }  // a must lie at a multiple of 16 bytes
static inline void store(float *a, f4 b) { *(f4 *)a = b; }
static inline f4 where(i4 yes, f4 a, f4 b) { return (f4)(((i4)a & yes) | ((i4)b & ~yes)); }

static inline f4 smaller(f4 a, f4 b) { return where(a < b, a, b); }
static inline f4 larger(f4 a, f4 b) { return where(a > b, a, b); }

void *memset(void *to, int byte, unsigned long n) {
  char *p = to;
  while (n--) *p++ = (char)byte;
  return to;
}
void *memcpy(void *to, const void *from, unsigned long n) {
  char *p = to;
  const char *q = from;
  while (n--) *p++ = *q++;
  return to;
}
static inline void zero(void *a, unsigned long bytes) { __builtin_memset(a, 0, bytes); }

// e^a, with a relative error below 2e-7 (Cephes' polynomial); 0 below −87, and e^88 above 88
static inline f4 exp4(f4 a) {
  f4 x = larger(smaller(a, four(88)), four(-87));
  f4 n = __builtin_elementwise_roundeven(x * 1.44269504f);
  f4 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  f4 p = four(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  f4 power = (f4)((__builtin_convertvector(n, i4) + 127) << 23);
  return where(a < -87, four(0), p * power);
}
static inline float exp1(float a) { return exp4(four(a))[0]; }

// ln a = e·ln 2 + 2·artanh((m − 1)/(m + 1)), for a = m·2^e with m between √½ and √2
static double log1(double a) {
  union {
    double number;
    unsigned long long bits;
  } m = {a};
  int e = (int)(m.bits >> 52) - 1023;
  m.bits = (m.bits & 0xfffffffffffffull) | (1023ull << 52);
  if (m.number > 1.4142135623730951) m.number *= 0.5, e++;
  double s = (m.number - 1) / (m.number + 1), series = 0;
  for (int k = 23; k > 0; k -= 2) series = series * s * s + 1.0 / k;
  return 2 * s * series + e * 0.6931471805599453;
}

// out[n][O] = in[n][I] · w[I][O] + bias[O], four rows and eight columns at a time
static void affine(float *out, const float *in, const float *w, const float *bias, int n, int I, int O) {
  int r = 0;
  for (; r + 4 <= n; r += 4)
    for (int o = 0; o < O; o += 8) {
      f4 acc[4][2];
      for (int k = 0; k < 4; k++)
        for (int j = 0; j < 2; j++) acc[k][j] = bias ? load(bias + o + 4 * j) : four(0);
      for (int i = 0; i < I; i++) {
        f4 left = load(w + i * O + o), right = load(w + i * O + o + 4);
        for (int k = 0; k < 4; k++) {
          float x = in[(r + k) * I + i];
          acc[k][0] += x * left, acc[k][1] += x * right;
        }
      }
      for (int k = 0; k < 4; k++)
        for (int j = 0; j < 2; j++) store(out + (r + k) * O + o + 4 * j, acc[k][j]);
    }
  for (; r < n; r++)
    for (int o = 0; o < O; o += 4) {
      f4 acc = bias ? load(bias + o) : four(0);
      for (int i = 0; i < I; i++) acc += in[r * I + i] * load(w + i * O + o);
      store(out + r * O + o, acc);
    }
}

// what `affine` sends back: dw[I][O] += in[n][I]ᵀ · dout[n][O], dbias[O] += Σ dout
static void affine_weights(float *dw, float *dbias, const float *in, const float *dout, int n, int I, int O) {
  for (int i = 0; i < I; i += 4)
    for (int o = 0; o < O; o += 8) {
      f4 acc[4][2];
      for (int k = 0; k < 4; k++)
        for (int j = 0; j < 2; j++) acc[k][j] = load(dw + (i + k) * O + o + 4 * j);
      for (int r = 0; r < n; r++) {
        f4 left = load(dout + r * O + o), right = load(dout + r * O + o + 4);
        for (int k = 0; k < 4; k++) {
          float x = in[r * I + i + k];
          acc[k][0] += x * left, acc[k][1] += x * right;
        }
      }
      for (int k = 0; k < 4; k++)
        for (int j = 0; j < 2; j++) store(dw + (i + k) * O + o + 4 * j, acc[k][j]);
    }
  for (int o = 0; dbias && o < O; o += 4) {
    f4 acc = load(dbias + o);
    for (int r = 0; r < n; r++) acc += load(dout + r * O + o);
    store(dbias + o, acc);
  }
}

// din[n][I] = dout[n][O] · w[I][O]ᵀ
static void affine_input(float *din, const float *dout, const float *w, int n, int I, int O) {
  static f4 room[D * F / 4];
  float *transposed = (float *)room;
  for (int i = 0; i < I; i++)
    for (int o = 0; o < O; o++) transposed[o * I + i] = w[i * O + o];
  affine(din, dout, transposed, 0, n, O, I);
}

// (in − mean)/√(variance + ε), row by row, and the factor 1/√(…) of each row
static inline float standardise(float *out, const float *in) {
  float mean = 0, variance = 0;
  for (int d = 0; d < D; d++) mean += in[d] / D;
  for (int d = 0; d < D; d++) variance += (in[d] - mean) * (in[d] - mean) / D;
  float scale = 1 / __builtin_sqrtf(variance + LAYER_NORM_EPSILON);
  for (int d = 0; d < D; d++) out[d] = (in[d] - mean) * scale;
  return scale;
}
static void layer_norm(float *out, const float *in, const float *weight, const float *bias, int n) {
  for (int r = 0; r < n; r++, in += D, out += D) {
    standardise(out, in);
    for (int d = 0; d < D; d++) out[d] = out[d] * weight[d] + bias[d];
  }
}
// din += what dout sends back
static void layer_norm_back(float *din, float *dweight, float *dbias, const float *dout, const float *in, const float *weight, int n) {
  for (int r = 0; r < n; r++, in += D, dout += D, din += D) {
    float hat[D], mean = 0, along = 0, scale = standardise(hat, in);
    for (int d = 0; d < D; d++) {
      mean += dout[d] * weight[d] / D, along += dout[d] * weight[d] * hat[d] / D;
      dweight[d] += dout[d] * hat[d], dbias[d] += dout[d];
    }
    for (int d = 0; d < D; d++) din[d] += scale * (dout[d] * weight[d] - mean - hat[d] * along);
  }
}

// GPT-2's GELU is z·(1 + tanh u)/2 with u = √(2/π)·(z + 0.044715·z³), which is z·σ(2u)
static inline f4 gelu_gate(f4 z) { return 1 / (1 + exp4(-z * (1.5957691216f + 0.0713548163f * z * z))); }
static inline f4 gelu(f4 z) { return z * gelu_gate(z); }
static inline f4 gelu_slope(f4 z) {
  f4 gate = gelu_gate(z);
  return gate + z * gate * (1 - gate) * (1.5957691216f + 0.2140644489f * z * z);
}
