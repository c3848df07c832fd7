"use strict";
// What stands behind the cockpit on a page without a kernel: a run of the engine, its parent, and the news of both.
// It does what rlhf_lab/ui/engine.py and branch.py do there, and sends what Cockpit._news sends.

const rlhfRun = (() => {
  const { tr } = rlhfParts;
  const EXACT_EVERY = 75,
    LIMIT = 2000,
    ROWS = 6,
    DRAWS = 128,
    COLLAPSED_AFTER = 60;
  const SLOW = 240; // ms from one iteration to the next, so that each can be read: about four a second
  const METRICS = ["score", "gold", "kl", "entropy"];
  const row = (metrics) => METRICS.map((name) => metrics[name]);
  const goal = ([score, , kl, entropy], eta, beta) => score - eta * kl + beta * entropy;
  const mean = (rows) => METRICS.map((_, k) => rows.reduce((sum, one) => sum + one[k], 0) / rows.length);

  /** One run with its records: `seen[k]` is the batch after k updates, `exact` counts all reviews. */
  class Branch {
    constructor(run) {
      Object.assign(this, { run, history: [], seen: [], exact: new Map(), forked: null });
    }
    fork() {
      const run = new rlhfEngine.Run(this.run.engine, this.run.config),
        twin = new Branch(run);
      run.load(this.run.state());
      return Object.assign(twin, {
        history: [...this.history],
        seen: [...this.seen],
        exact: new Map(this.exact),
      });
    }
    step() {
      const stats = this.run.step();
      if (!stats)
        throw new Error(
          tr(
            "iteration {k}: a number is not finite; the last good iteration is kept. Lower the learning rate.",
            { k: this.run.iteration + 1 },
          ),
        );
      this.history.push(stats);
      this.seen.push(row(stats));
    }
    measure() {
      const { prompts } = this.run.engine.data,
        k = this.run.iteration;
      if (!this.exact.has(k)) this.exact.set(k, mean(prompts.map((_, i) => row(this.run.exact(i, 0, 0)))));
    }
    /** As Branch.moves: pulling a slider over several positions is one move, to where it stopped. */
    moves() {
      if (this.run.config.kl_target) return [];
      const found = [];
      for (let n = 1; n < this.history.length; n++) {
        const [before, now] = [this.history[n - 1], this.history[n]];
        for (const [letter, old, next] of [
          ["η", before.eta, now.eta],
          ["β", before.beta, now.beta],
        ]) {
          if (old === next) continue;
          const k = now.iteration - 1,
            last = found.at(-1);
          if (last && last[1] === letter && k - last[0] <= 5) found.pop();
          found.push([k, letter, `${letter} ${+next.toPrecision(6)}`]);
        }
      }
      return found.map(([k, , text]) => [k, text]);
    }
  }

  class Host {
    constructor(engine, start) {
      this.engine = engine;
      this.constants = { ...engine.data.cockpit, klModes: ["kl"] };
      this.first = { eta: start.eta ?? 0, beta: start.beta ?? 0, seed: start.seed ?? 0 };
      this.weights = start.start === "collapsed" ? this.collapsed(engine) : null;
      Object.assign(this, {
        listeners: new Set(),
        saved: new Map(),
        optima: new Map(),
        moved: {},
        serial: 0,
        turned: 0,
        slow: true,
        number: 0,
        frame: 0,
      });
      this.restart({});
      if (this.weights)
        this.constants.first = Object.fromEntries(
          engine.data.prompts.map((prompt, i) => [
            prompt,
            this.branch.run.exact(i, ROWS, DRAWS).said.map((one) => [one.p, one.text, one.gold]),
          ]),
        );
    }

    /** The policy that a run without a leash ends with. */
    collapsed(engine) {
      const run = new rlhfEngine.Run(engine, { seed: 3 });
      for (let k = 0; k < COLLAPSED_AFTER; k++) run.step();
      return run.policy();
    }

    restart(settings) {
      this.stop();
      const run = new rlhfEngine.Run(this.engine, { ...this.first, ...this.branch?.run.config, ...settings });
      if (this.weights) run.begin(this.weights);
      this.adopt(new Branch(run), "");
    }

    adopt(branch, note, parent = null) {
      Object.assign(this, { branch, parent, note, error: null, sent: 0, sentParent: 0 });
      this.number++;
    }

    stop() {
      cancelAnimationFrame(this.frame);
      this.frame = 0;
    }

    /** Iterations until somebody pauses it: one in each frame, or about four a second. */
    play(until, now = performance.now()) {
      if (this.slow && now - this.turned < SLOW) {
        this.frame = requestAnimationFrame((then) => this.play(until, then));
        return;
      }
      this.turned = now;
      this.turn();
      if (this.error || this.branch.run.iteration >= until) {
        this.frame = 0;
        if (!this.error)
          this.note = tr("It stopped by itself after {n} iterations; press Go on.", {
            n: LIMIT.toLocaleString("en-US"),
          });
        this.branch.measure();
      } else this.frame = requestAnimationFrame((then) => this.play(until, then));
      this.tell();
    }

    turn() {
      try {
        this.branch.step();
        this.adapt();
      } catch (error) {
        this.error = error.message;
      }
      try {
        this.parent?.step();
      } catch {
        /* a parent that overflows keeps its last state */
      }
      if (this.branch.run.iteration % EXACT_EVERY === 0) this.branch.measure();
    }

    /** AdaptiveKLController: η ← η·(1 + clip(kl/target − 1, ±0.2)·n/horizon). */
    adapt() {
      const { config } = this.branch.run,
        { kl } = this.branch.history.at(-1);
      if (config.kl_target)
        config.eta *=
          1 + Math.min(Math.max(kl / config.kl_target - 1, -0.2), 0.2) * (config.batch_size / 10_000);
    }

    send(order) {
      try {
        this.obey(order);
      } catch (error) {
        this.error = error.message;
      }
      this.tell();
    }

    obey(order) {
      const { run } = this.branch;
      if (order.heard) return;
      if ("slow" in order) this.slow = order.slow;
      if (order.all) this.sent = this.sentParent = 0;
      if (order.move) {
        if (run.config.kl_target && order.move.eta === 0)
          throw new Error(tr("eta must be > 0 while kl_target adapts it: no factor moves it from 0"));
        Object.assign(run.config, order.move);
        if (order.page) this.moved[order.page] = order.asked;
      }
      if (["pause", "step", "reset", "load"].includes(order.do)) this.stop();
      if (["start", "step"].includes(order.do)) Object.assign(this, { error: null, note: "" });
      if (order.do === "start") this.play(run.iteration + LIMIT);
      if (order.do === "step") this.turn();
      if (order.do === "fork") this.branch.forked = run.iteration;
      if (order.do === "fork")
        this.adopt(
          this.branch,
          tr("Forked at iteration {k}: the parent goes on in grey.", { k: run.iteration }),
          this.branch.fork(),
        );
      if (order.do === "reset") this.restart(this.settings(order));
      if (order.do === "save") {
        this.saved.set(order.folder, this.branch.fork());
        Object.assign(this, {
          note: tr("Saved {k} iterations as {folder}, until this page is closed.", {
            k: run.iteration,
            folder: order.folder,
          }),
          error: null,
        });
      }
      if (order.do === "load") {
        if (!this.saved.has(order.folder))
          throw new Error(tr("Nothing has been saved as {folder} since this page was opened.", order));
        this.adopt(this.saved.get(order.folder).fork(), tr("Loaded {folder}.", order));
      }
      if (!this.frame) this.branch.measure();
    }

    /** What somebody typed, read as Cockpit._restart reads it. */
    settings({ settings: { seed, lr, kl_target: target }, eta, beta }) {
      const wanted = {
        lr: Number(lr),
        seed: Number(seed),
        kl_target: target === "" ? null : Number(target),
        eta,
        beta,
      };
      if (!Number.isInteger(wanted.seed) || wanted.seed < 0)
        throw new Error(tr("seed must be a whole number, got “{seed}”", { seed }));
      if (wanted.kl_target !== null && !(wanted.kl_target > 0))
        throw new Error(tr("kl_target must be a number above 0, got “{target}”", { target }));
      if (wanted.kl_target !== null && !(eta > 0))
        throw new Error(tr("eta must be > 0 where kl_target is set: η moves by factors, from eta on"));
      for (const [name, value] of [
        ["eta", eta],
        ["beta", beta],
      ])
        if (!(value >= 0)) throw new Error(tr("{name} must be a number that is at least 0", { name }));
      return wanted;
    }

    optimum(eta, beta) {
      const key = `${eta} ${beta}`;
      if (!this.optima.has(key))
        this.optima.set(
          key,
          mean(this.engine.data.prompts.map((_, i) => row(this.engine.optimum(i, false, eta, beta, 0, 0)))),
        );
      return this.optima.get(key);
    }

    status() {
      const k = this.branch.run.iteration.toLocaleString("en-US");
      if (this.frame) return tr("Running, iteration {k}.", { k });
      if (this.error) return tr("That did not work. The run is kept as it was after iteration {k}.", { k });
      return this.branch.run.iteration ? tr("Paused at iteration {k}.", { k }) : tr("Ready.");
    }

    /** The news that Cockpit._news sends. */
    news() {
      const { branch, parent } = this,
        { run } = branch,
        { eta, beta, lr, seed } = run.config;
      const best = this.optimum(eta, beta),
        at = Math.max(...branch.exact.keys()),
        exact = branch.exact.get(at),
        batch = branch.seen.at(-1) ?? null;
      const [from, parentFrom] = [this.sent, this.sentParent];
      [this.sent, this.sentParent] = [branch.seen.length, parent?.seen.length ?? 0];
      const of = (list) => Object.fromEntries(this.constants.prompts.map((prompt, i) => [prompt, list(i)]));
      return {
        serial: ++this.serial,
        run: this.number,
        from,
        parentFrom,
        rows: branch.seen.slice(from),
        parent: parent?.seen.slice(parentFrom) ?? [],
        allExact: [...branch.exact].map(([k, m]) => [k, ...m]),
        moves: branch.moves(),
        forked: branch.forked,
        slow: this.slow,
        running: this.frame !== 0,
        iteration: run.iteration,
        status: this.status(),
        note: this.note,
        error: this.error,
        eta,
        beta,
        optimum: best,
        exact,
        exactAt: at,
        batch,
        distinct: branch.history.at(-1)?.distinct ?? null,
        regret: goal(best, eta, beta) - goal(exact, eta, beta),
        moved: this.moved,
        estimate: batch && goal(best, eta, beta) - goal(batch, eta, beta),
        reviews: of((i) => run.reviews(i, ROWS)),
        written: of(() => (run.iteration ? run.config.batch_size / this.constants.prompts.length : 0)),
        settings: { kl_mode: "kl", lr, seed, kl_target: run.config.kl_target ?? null },
      };
    }

    tell() {
      if (!this.listeners.size) return;
      const news = this.news();
      for (const hear of this.listeners) hear(news);
    }
    listen(callback) {
      this.listeners.add(callback);
      return () => this.listeners.delete(callback);
    }
    trouble() {
      return () => {};
    }
  }

  return { host: (engine, start) => new Host(engine, start) };
})();
