// The engine of a page: world.wasm with the course's weights and scores in it, and runs of PPO on top.
//
// A classic script, because a page that is opened from a USB stick may not fetch, nor import a module. Its data come
// the same way: data.js sets window.RLHF_DATA, and is asked for only when something on the page needs it.
const rlhfEngine = (() => {
  const HERE = document.currentScript?.src ?? "";
  const T = 5;
  const TYPES = { i4: Int32Array, f4: Float32Array, f8: Float64Array, u1: Uint8Array };
  const CONFIG = ["eta", "beta", "lr", "adam_eps", "cliprange", "cliprange_value", "vf_coef", "gamma", "lam", "batch_size", "epochs"];
  const DEFAULTS = [0, 0, 1e-3, 1e-5, 0.2, 0.2, 0.1, 1, 0.95, 128, 4];
  const STATS = ["score", "kl", "entropy", "reward", "length", "distinct", "top_share", "policy_loss", "value_loss",
    "clip_fraction", "approx_kl", "gold", "nodes"];

  const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

  /** Numbers that export.py has packed: deflated, all lowest bytes first. */
  async function unpacked(text, Type) {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const size = Type.BYTES_PER_ELEMENT, n = planes.length / size, out = new Uint8Array(planes.length);
    for (let j = 0; j < size; j++) for (let i = 0; i < n; i++) out[i * size + j] = planes[j * n + i];
    return new Type(out.buffer);
  }

  /** torch.rand(…, dtype=torch.float64) of torch.Generator().manual_seed(seed), number by number: a Mersenne Twister. */
  class Generator {
    constructor(seed) {
      this.words = new Uint32Array(624);
      this.words[0] = seed;
      for (let i = 1; i < 624; i++) this.words[i] = Math.imul(1812433253, this.words[i - 1] ^ (this.words[i - 1] >>> 30)) + i;
      this.at = 624;
    }
    _word() {
      const w = this.words;
      if (this.at === 624) {
        for (let k = 0; k < 624; k++) {
          const y = (w[k] & 0x80000000) | (w[(k + 1) % 624] & 0x7fffffff);
          w[k] = w[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
        }
        this.at = 0;
      }
      let y = w[this.at++];
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      return (y ^ (y >>> 18)) >>> 0;
    }
    /** The next number in [0, 1): 53 bits of two words. */
    rand() {
      const high = this._word() & 0x1fffff;
      return (high * 4294967296 + this._word()) / 9007199254740992;
    }
    copy() {
      const twin = Object.create(Generator.prototype);
      return Object.assign(twin, { words: this.words.slice(), at: this.at });
    }
  }

  /** world.wasm and its memory. Its functions are those of the package: see world.c. */
  class Engine {
    constructor(module, data) {
      this.data = data;
      this.module = module;
      this.wasm = new WebAssembly.Instance(module).exports;
      this.places = {};
      for (let i = 0; i < this.wasm.place_count(); i++) {
        this.places[this._text(this.wasm.place_name(i))] = [this.wasm.place_at(i), this.wasm.place_bytes(i)];
      }
    }

    /** Everything that the data hold, read once. `progress` is told whose reviews are read, and may wait for a frame. */
    static async load(data, progress = () => {}) {
      const engine = new Engine(await WebAssembly.compile(bytesOf(data.wasm)), data);
      engine.view("sft").set(await unpacked(data.weights, Float32Array));
      for (const [i, prompt] of data.prompts.entries()) {
        const steps = await unpacked(data.score[i].data, Uint16Array), which = await unpacked(data.gold[i].data, Uint16Array);
        const { scores, golds } = engine.tables(i), { low, step } = data.score[i], levels = data.gold[i].levels;
        for (let y = 0; y < steps.length; y++) scores[y] = low + steps[y] * step, golds[y] = levels[which[y]];
        await progress(prompt, steps.length);
        engine.wasm.read_reference(i);
      }
      engine.wasm.start();
      return engine;
    }

    /** A second engine with the same numbers: each run of PPO has a policy of its own. */
    twin() {
      const other = new Engine(this.module, this.data);
      new Uint8Array(other.wasm.memory.buffer).set(new Uint8Array(this.wasm.memory.buffer));
      return other;
    }

    view(name, type = "f4") {
      const [at, size] = this.places[name];
      return new TYPES[type](this.wasm.memory.buffer, at, size / TYPES[type].BYTES_PER_ELEMENT);
    }

    /** The numbers of all responses to prompt i: log π_ref, reward model's score, gold score. */
    tables(i) {
      const n = this.data.responses;
      const row = (name) => {
        const all = this.view(name), padded = all.length / this.data.prompts.length;
        return all.subarray(i * padded, i * padded + n);
      };
      return { ref: row("ref_logprobs"), scores: row("scores"), golds: row("golds") };
    }

    _text(at) {
      const bytes = new Uint8Array(this.wasm.memory.buffer, at, 32);
      return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
    }

    text(y) {
      return rlhfOptimum.text(y, this.data.words);
    }

    /** π* for (η, β), over prompt i: its exact numbers, and the k responses that it says most often. */
    optimum(i, ofGold, eta, beta, k, draws) {
      this.wasm.optimum(i, ofGold ? 1 : 0, eta, beta, k, draws);
      return this._described(i, k);
    }

    _described(i, k) {
      const [, own, ref, score, gold, distinct] = this.view("means", "f8");
      const index = this.view("top_index", "i4"), share = this.view("top_share"), tables = this.tables(i), said = [];
      for (let j = 0; j < k && index[j] >= 0; j++) {
        const y = index[j];
        said.push({ index: y, text: this.text(y), p: share[j], ref: Math.exp(tables.ref[y]), score: tables.scores[y], gold: tables.golds[y] });
      }
      return { score, gold, kl: own - ref, entropy: -own, distinct, said };
    }
  }

  /** A run of PPO: rlhf_lab.Trainer's, token for token as long as rounding lets it. */
  class Run {
    constructor(engine, config = {}) {
      this.engine = engine.twin();
      this.config = { ...Object.fromEntries(CONFIG.map((name, i) => [name, DEFAULTS[i]])), seed: 0, ...config };
      this.start();
    }

    start() {
      this.generator = new Generator(this.config.seed);
      this.iteration = 0;
      this.engine.wasm.start();
    }

    /** One iteration: its record as rlhf_lab.StepStats has it, or null if a number overflowed; then nothing has changed. */
    step() {
      const { engine, config } = this, B = config.batch_size, before = this.generator.copy();
      engine.view("config", "f8").set(CONFIG.map((name) => config[name]));
      const uniforms = engine.view("uniforms", "f8"), row = uniforms.length / T;
      for (let t = 0; t < T; t++) for (let b = 0; b < B; b++) uniforms[t * row + b] = this.generator.rand();
      if (!engine.wasm.iterate()) {
        this.generator = before;
        return null;
      }
      this.iteration++;
      const record = Object.fromEntries(STATS.map((name, i) => [name, engine.view("stats", "f8")[i]]));
      return { iteration: this.iteration, eta: config.eta, beta: config.beta, ...record };
    }

    /** Begin again with another policy than π_SFT; `policy` gives one. */
    begin(policy) {
      this.start();
      this.engine.view("state").set(policy);
    }
    policy() {
      return this.engine.view("state").slice(0, this.engine.data.policy_size);
    }

    /** The most frequent reviews of prompt i in the last batch: [times, text, gold score]. */
    reviews(i, most) {
      if (!this.iteration) return [];
      const { engine } = this, { data } = engine, numbers = engine.view("number_of", "i4"), times = new Map();
      for (let b = i; b < this.config.batch_size; b += data.prompts.length) times.set(numbers[b], (times.get(numbers[b]) ?? 0) + 1);
      const { golds } = engine.tables(i);
      return [...times].sort((a, b) => b[1] - a[1]).slice(0, most).map(([y, n]) => [n, engine.text(y), golds[y]]);
    }

    /** What the last batch said: text, how often, and its number; the most frequent first. */
    batch() {
      const { engine } = this, ids = engine.view("responses", "i4"), copies = engine.view("copies", "i4"), said = [];
      const numbers = engine.view("number_of", "i4");
      for (let b = 0; b < this.config.batch_size; b++) {
        if (!copies[b]) continue;
        const row = [...ids.subarray(b * T, b * T + T)], end = row.indexOf(0);
        const words = row.slice(0, end < 0 ? T : end).map((id) => engine.data.words[id]);
        said.push({ text: [...words, ...(end < 0 ? [] : ["."])].join(" "), count: copies[b], index: numbers[b] });
      }
      return said.sort((a, b) => b.count - a.count);
    }

    /** The policy's exact numbers over all responses to prompt i. */
    exact(i, k = 5, draws = 128) {
      this.engine.wasm.read_policy(i);
      this.engine.wasm.evaluate(i, k, draws);
      return this.engine._described(i, k);
    }

    /** Everything that the run is made of, to be kept; and back to it. */
    state() {
      return { weights: this.engine.view("state", "u1").slice(), generator: this.generator.copy(), iteration: this.iteration, config: { ...this.config } };
    }
    load(state) {
      this.engine.view("state", "u1").set(state.weights);
      Object.assign(this, { generator: state.generator.copy(), iteration: state.iteration, config: { ...state.config } });
    }
  }

  let opened;
  /** The page's engine, loaded once, when the first element asks for it. */
  function open(progress) {
    opened ??= new Promise((done, failed) => {
      if (window.RLHF_DATA) return done(window.RLHF_DATA);
      const script = Object.assign(document.createElement("script"), { src: new URL("data.js", HERE).href });
      script.onload = () => done(window.RLHF_DATA);
      script.onerror = () => failed(new Error("the file data.js is missing"));
      document.head.append(script);
    }).then((data) => Engine.load(data, progress));
    return opened;
  }

  return { open, Engine, Run, Generator };
})();
