"use strict";
// π* at any (η, β) from tables of all responses, as `Optima` in optima.py computes it. No page is
// needed here: the tests run this very file without a browser and compare it with Python.
//
// tables: {ref, score, gold}, a Float32Array each: log π_SFT(y), the reward model's score and the
// gold score of every response y. Sums are made in double precision.

const rlhfOptimum = (() => {
  const ROWS = 7;
  const SQUARINGS = 7; // (1 − p)^128: how often a review is missed in 128 draws

  /** Fill `p` with π* times z; returns E[score], E[gold], KL(π* ‖ π_SFT) and H(π*), and z. */
  function optimum({ ref, score, gold }, aim, eta, beta, p) {
    const r = aim === "gold" ? gold : score;
    const tau = eta + beta,
      a = tau ? eta / tau : 0,
      b = tau ? 1 / tau : 1;
    let best = 0,
      top = -Infinity;
    for (let i = 0; i < p.length; i++) {
      const logit = a * ref[i] + b * r[i];
      if (logit > top) [top, best] = [logit, i];
    }
    if (!tau) {
      // nothing holds π*: in the limit it is the response with the highest score
      p.fill(0);
      p[best] = 1;
      return { z: 1, score: score[best], gold: gold[best], kl: -ref[best], entropy: 0 };
    }
    let z = 0,
      ofRef = 0,
      ofScore = 0,
      ofGold = 0;
    for (let i = 0; i < p.length; i++) {
      const e = Math.exp(a * ref[i] + b * r[i] - top);
      p[i] = e;
      z += e;
      ofRef += e * ref[i];
      ofScore += e * score[i];
      ofGold += e * gold[i];
    }
    [ofRef, ofScore, ofGold] = [ofRef / z, ofScore / z, ofGold / z];
    // log π* is linear in log π_SFT and r, so no further logarithm is needed.
    const entropy = Math.log(z) + top - a * ofRef - b * (r === gold ? ofGold : ofScore);
    return { z, score: ofScore, gold: ofGold, kl: -entropy - ofRef, entropy };
  }

  /** Divide `p` by z. Gives the expected number of different responses in 128 draws, and the `rows`
   *  most probable ones; of equals, the one that π_SFT says more often. One pass: 2 ms. */
  function reading(p, z, ref, rows) {
    const best = [];
    const before = (i, j) => p[i] > p[j] || (p[i] === p[j] && ref[i] > ref[j]);
    let missed = 0,
      least = 0;
    for (let i = 0; i < p.length; i++) {
      const q = (p[i] /= z);
      let m = 1 - q;
      for (let k = 0; k < SQUARINGS; k++) m *= m;
      missed += m;
      if (q < least || q === 0) continue;
      if (best.length === rows && !before(i, best[rows - 1])) continue;
      let place = best.length;
      while (place > 0 && before(i, best[place - 1])) place--;
      best.splice(place, 0, i);
      if (best.length > rows) best.pop();
      if (best.length === rows) least = p[best[rows - 1]];
    }
    return { distinct: p.length - missed, best };
  }

  /** Everything that the explorer shows about π*. `reference`: the same numbers of π_SFT. */
  function solve(tables, aim, eta, beta, reference, rows = ROWS) {
    const p = (tables.scratch ??= new Float64Array(tables.ref.length));
    const { z, ...metrics } = optimum(tables, aim, eta, beta, p);
    const { distinct, best } = reading(p, z, tables.ref, rows);
    const compared = tables.compared ?? tables.ref;
    const said = best.map((i) => ({
      index: i,
      p: p[i],
      compared: Math.exp(compared[i]),
      score: tables.score[i],
      gold: tables.gold[i],
    }));
    return { eta, beta, ...metrics, distinct, said, kind: kind(metrics, reference) };
  }

  /** The region of `region` in optima.py; a collapse that readers like has a name of its own. */
  function kind({ gold, kl, entropy }, reference) {
    if (kl < 0.2) return "frozen";
    if (Math.exp(entropy) < 2) return gold < 0 ? "collapse" : "one good answer";
    if (gold >= 0) return "useful";
    return entropy > reference.entropy ? "word salad" : "collapse";
  }

  /** The text of response number `index`; those of fewer words come first, and end with <eos>. */
  function text(index, words, length = 5) {
    const n = words.length - 1;
    let size = 1,
      said = 0;
    while (said < length - 1 && index >= size) {
      index -= size;
      size *= n;
      said += 1;
    }
    const full = said === length - 1;
    const tokens = [];
    if (full) {
      tokens.push(index % (n + 1));
      index = Math.floor(index / (n + 1));
    } else {
      tokens.push(0);
    }
    for (let k = 0; k < said; k++) {
      tokens.unshift(1 + (index % n));
      index = Math.floor(index / n);
    }
    return tokens.map((token) => (token ? words[token] : ".")).join(" ");
  }

  /** What is wrong with tables, as a sentence; "" if nothing is. */
  function trouble(tables, prompt) {
    const { tr } = rlhfParts;
    for (const [name, what] of [
      ["ref", "log π_SFT"],
      ["score", tr("score")],
      ["gold", tr("gold score")],
    ]) {
      const column = tables?.[name];
      if (!column?.length)
        return tr("The table of “{prompt}” has no {what}. Run this cell again.", { prompt, what });
      const row = column.findIndex((x) => !Number.isFinite(x));
      if (row >= 0)
        return tr(
          "The {what} of review {row} of “{prompt}” is not a number, so π* cannot be computed. Load the world again.",
          { what, row, prompt },
        );
      if (column.length !== tables.ref.length)
        return tr("The table of “{prompt}” is not complete. Run this cell again.", { prompt });
    }
    return "";
  }

  return { solve, kind, text, trouble, rows: ROWS };
})();
