"use strict";
// The explorer: η and β moved on a map, and what the exact optimum says there. It draws into any
// element and knows of its surroundings only the `host`:
//
//   host.get(name), host.set(name, value, done), host.on(name, callback) -> function that undoes it
//       the names are prompt, score, eta and beta; `done` is false while a hand still drags
//   host.constants  {prompts, scores, etas, betas, words, panels, comparedName, draws}
//   host.world(prompt, score)  a promise of {tables, still}: see optimum.js, and
//       still = {reference, curve, map}: numbers of π_SFT, those of π* at β = 0 for each η, and the
//       kind of π* for each β and η, as an index into KINDS
//   host.solve({prompt, score, eta, beta}, reference)  may be left out: the same as rlhfOptimum.solve, but faster
//   host.links  may be left out: {ppo, cockpit}, addresses of where PPO is trained
//   host.trouble(callback)  calls back with a sentence if what stands behind the page is lost
//
// One function, `draw`, shows one state of one world. While another world is on its way, all that
// is old is grey.

const rlhfExplorer = (() => {
  const {
    tr,
    regionName,
    letters,
    REGIONS,
    SFT,
    SFT_DRAWN,
    printed,
    slider,
    nearest,
    asNumber,
    liking,
    number,
    share,
    count,
    escaped,
    scale,
    clip,
    face,
    gauge,
    icon,
    rope,
    textures,
    polyline,
    twoTone,
  } = rlhfParts;
  const KINDS = ["collapse", "useful", "frozen", "word salad", "one good answer"];
  const meanings = () => ({
    collapse: tr("less varied than π_SFT, and careful readers dislike it"),
    useful: tr("careful readers like it, and it has more than one thing to say"),
    frozen: tr("hardly different from π_SFT"),
    "word salad": tr("more varied than π_SFT, and careful readers dislike it"),
    "one good answer": tr("a collapse, too, but careful readers like it"),
  });
  /** Why π* is of this kind, while it maximises `aim`. What careful readers like best is no collapse. */
  const reasons = (aim) => ({
    collapse: tr(
      "Distance is cheap here, so π* goes to the few sentences that the reward model overrates most.",
    ),
    useful:
      aim === "gold"
        ? tr("π* goes to what careful readers like; the less a nat costs, the further.")
        : tr("Distance costs enough that π* stays where the reward model is mostly right."),
    frozen:
      aim === "gold"
        ? tr("A nat costs more than careful readers give for it, so π* stays where it is.")
        : tr("A nat costs more than the reward pays for it, so π* stays where it is."),
    "word salad": tr("β pays for variety itself, and most of 402,234 reviews are nonsense."),
    "one good answer": tr(
      "Collapse on something that careful readers like: as varied as fewer than two reviews.",
    ),
  });
  const ORDER = ["collapse", "frozen", "word salad", "useful", "one good answer"]; // in which to look for them
  /** What to try in order to see a kind, while π* maximises `aim`: with the ring, and on a phone, where the map is far
   *  away, with the sliders. */
  const quest = (kind, aim) =>
    ({
      collapse:
        aim === "gold"
          ? [
              tr("Choose “reward model” again, and drag the ring to the left (less η)."),
              tr("Choose “reward model” again, and slide η to the left."),
            ]
          : [
              tr("Drag the ring to the left (less η), until the face frowns."),
              tr("Slide η to the left, until the face frowns."),
            ],
      frozen: [
        tr("Drag the ring to the right (more η), until π* hardly changes."),
        tr("Slide η to the right, until π* hardly changes."),
      ],
      "word salad": [
        tr("Drag the ring up (more β), until the words make no sense."),
        tr("Slide β to the right, until the words make no sense."),
      ],
      useful: [
        tr("Drag the ring to the middle of the lower edge, until the face smiles."),
        tr("Slide β to 0 and η to the middle, until the face smiles."),
      ],
      "one good answer":
        aim === "gold"
          ? [
              tr("Drag the ring to the left (less η), until π* says one thing only."),
              tr("Slide η to the left, until π* says one thing only."),
            ]
          : [
              tr("Choose “careful readers” above, and drag the ring to the left (less η)."),
              tr("Choose “careful readers” above, and slide η to the left."),
            ],
    })[kind];
  /** How well a place shows its kind: of all that were visited, the best is kept. */
  const worth = ({ kind, gold, kl }) =>
    kind === "frozen" ? -kl : kind === "useful" || kind === "one good answer" ? gold : -gold;
  const SWATCHES = {
    collapse: ["bad-tint", "collapse"],
    useful: ["liked-tint", ""],
    frozen: ["cool-tint", "frozen"],
    "word salad": ["many-tint", "salad"],
    "one good answer": ["liked-tint", ""],
  };
  const LOSSES = ["collapse", "one good answer"];
  const ROWS = 7,
    GONE = 5, // of them, at most, for what is no longer said, and at least LOST
    LOST = 2,
    RARE = 0.05, // where nothing is said more often, a random draw tells more than the most frequent review
    DRAWN = 3, // rows for random draws
    LEAST = 0.0005, // what is said less often needs no row of its own, where others are no longer said
    TRAIL = 80,
    SWEEP = 6000; // ms from the tightest leash to none

  /** The text of the line that changes: what a nat costs, how far π* goes, and what that buys. */
  function bill(s, reference, aim) {
    if (s.eta + s.beta === 0)
      return aim === "gold"
        ? tr("Nothing holds π*: it says the one review that careful readers like best, always.")
        : tr("Nothing holds π*: it says the one review that the reward model scores highest, always.");
    const kl = number(s.kl),
      far = s.kl < 0.995 || s.kl >= 1.005 ? tr("<b>{kl}</b> nats", { kl }) : tr("<b>{kl}</b> nat", { kl });
    const gain = number(aim === "gold" ? s.gold - reference.gold : s.score - reference.score, 2, true);
    const gains =
      aim === "gold"
        ? tr('<b class="gain">{gain}</b> of gold score', { gain })
        : tr('<b class="gain">{gain}</b> of score', { gain });
    const values = { cost: cost(s.eta), far, gains, paid: number(s.eta * s.kl) };
    const told =
      s.eta > 0
        ? tr(
            '{cost}, so π* goes {far} away, pays <b class="eta">{paid}</b> for it and gains {gains}.',
            values,
          )
        : tr("{cost}, so π* goes {far} away and gains {gains}.", values);
    if (s.beta === 0) return told;
    const [pays, h] = [number(s.beta * s.entropy), number(s.entropy, 1)];
    return `${told} ${tr('β adds <b class="beta">{pays}</b> for {h} nats of entropy.', { pays, h })}`;
  }

  function cost(eta) {
    if (eta === 0) return tr("A nat of distance costs nothing");
    if (eta < 0.05) return tr("A nat of distance costs almost nothing, <b>{eta}</b>", { eta });
    if (eta < 1) return tr("A nat of distance costs <b>{eta}</b>", { eta });
    return tr("A nat of distance costs much, <b>{eta}</b>", { eta });
  }

  /** The same state in one sentence, for those who hear it. */
  const spoken = (s) => {
    const values = {
      eta: s.eta,
      beta: s.beta,
      kind: regionName(s.kind),
      said: s.drawn.length
        ? tr("Drawn at random: “{text}”.", { text: s.drawn[0].text })
        : tr("Mostly “{first}”, {p}.", { first: s.first, p: rarely(s.said[0].p) }),
      score: number(s.score),
      gold: number(s.gold),
      kl: number(s.kl),
    };
    return tr(
      "η {eta}, β {beta}: {kind}. {said} Score {score}, gold score {gold}, {kl} nats from π_SFT.",
      values,
    );
  };

  const choice = (id, name, label, options, titles = {}) =>
    `<fieldset class="choice" aria-label="${label}">${options
      .map(
        (option, k) =>
          `<input type="radio" name="${id}-${name}" id="${id}-${name}${k}" value="${option}" data-of="${name}"><label for="${id}-${name}${k}">${titles[option] ?? option}</label>`,
      )
      .join("")}</fieldset>`;

  const row = () =>
    `<li class="row none"><span class="voice text"></span><span class="bar"><i></i><span class="tick"></span><b></b></span><span class="gold"></span></li>`;

  function skeleton(id, { prompts, scores, etas, betas, panels }) {
    const hidden = (panel) => (panels.includes(panel) ? "" : "hidden");
    return `${textures(id)}<div class="sheet"><p class="trouble" role="alert"></p>
      <div class="top">${choice(id, "prompt", tr("prompt"), prompts)}<span><span class="question"><span class="long">${tr("the best policy")} </span>${tr("π* for")}</span>${choice(id, "score", tr("what π* maximises"), scores, { gold: tr("careful readers"), "reward model": tr("reward model") })}</span>
        <button class="play" type="button" aria-pressed="false">${tr("Let the leash go, slowly")}</button></div>
      <div class="head"><div class="front-says"><p class="kind"><svg class="here" width="22" height="22" viewBox="-11 -11 22 22" aria-hidden="true"><circle r="8.5" fill="none" stroke="var(--ink)" stroke-width="2.6"/><circle r="2.2" fill="var(--ink)"/></svg><span class="chip"></span><span class="meaning"></span></p><p class="voice headline"></p><p class="soft of"></p></div>
        <div class="judges"><figure class="by-model"></figure><figure class="by-readers"></figure></div></div>
      <div class="rows" ${hidden("responses")}><p class="key"><span class="about"></span><span><span class="full"></span><span class="tick"></span><span class="by"></span></span><span class="judged">${tr("careful readers")}</span></p><ol>${row().repeat(ROWS)}</ol></div>
      <div class="nums"></div><div class="sums"><p class="bill"></p><p class="why"></p></div>
      <ul class="goals" aria-label="${tr("Places to find on the map")}"></ul>
      <div class="place"><p class="hint" role="status"></p><div class="map" ${hidden("map")}></div>
        <div class="dock">${slider("eta", "η", tr("price of a nat from π_SFT"), [tr("no leash"), tr("tight leash")], etas.length - 1)}${slider("beta", "β", tr("bonus for entropy"), [tr("no bonus"), `${tr("large bonus")}<span> ${tr("for variety")}</span>`], betas.length - 1)}</div>
        <div class="front" ${hidden("frontier")}></div></div>
      <p class="wait"></p><p class="heard" role="status"></p></div>`;
  }

  /** Where things are on the map: ring and thumbs stand at the same place, whatever the position. 0 has no place on a
   *  logarithmic axis, so that a gap sets it apart. */
  function mapPlaces(width, etas, betas, left) {
    const pad = 12, // half a thumb
      gap = 4,
      W = width - left,
      H = Math.round(0.62 * W);
    const w = (W - 2 * pad) / (etas.length - 1),
      h = (H - 2 * pad) / (betas.length - 1);
    const edge = (k, size, last, whole) => (k === 0 ? 0 : k > last ? whole : pad + (k - 0.5) * size);
    return {
      left,
      W,
      H,
      w,
      h,
      x: (k) => left + pad + k * w,
      y: (k) => H - pad - k * h,
      box(i, j, n) {
        const [x0, x1] = [i, i + n].map((k) => edge(k, w, etas.length - 1, W)),
          [y0, y1] = [j, j + 1].map((k) => edge(k, h, betas.length - 1, H));
        const [across, up] = [i, j].map((k) => (k === 0 ? gap : 0));
        return { x: left + x0, y: H - y1 + up, width: x1 - x0 - across, height: y1 - y0 - up };
      },
      eta: (px) => clip(Math.round((px - left - pad) / w), 0, etas.length - 1),
      beta: (py) => clip(Math.round((H - pad - py) / h), 0, betas.length - 1),
    };
  }

  /** Runs of equal cells, row by row: [i, j, cells, kind]. */
  function runs(map, columns) {
    const found = [];
    for (let at = 0; at < map.length;) {
      const i = at % columns,
        j = Math.floor(at / columns);
      let n = 1;
      while (i > 0 && i + n < columns && map[at + n] === map[at]) n++;
      found.push([i, j, n, map[at]]);
      at += n;
    }
    return found;
  }

  /** Where the name of a kind fits into its area, or null: [x, y] in px. */
  function nameplate(map, etas, betas, places, kind, width) {
    const inside = (i, j) =>
      i > 0 && j > 0 && i < etas.length && j < betas.length && map[j * etas.length + i] === kind;
    const rows = Math.ceil(9 / places.h);
    const free = (i, j) => {
      for (let d = -rows; d <= rows; d++) if (!inside(i, j + d)) return false;
      return true;
    };
    let best = null,
      most = 0;
    for (let j = 1; j < betas.length; j++) {
      for (let i = 1; i < etas.length; i++) {
        if (!free(i, j)) continue;
        let n = 1;
        while (free(i + n, j)) n++;
        let high = rows;
        const middle = i + Math.floor(n / 2);
        while (inside(middle, j + high) && inside(middle, j - high)) high++;
        const worth = Math.min(n * places.w, 1.5 * width) + Math.min(high * places.h, 60);
        if (n * places.w > width + 2 && worth > most)
          [best, most] = [[places.x(i + (n - 1) / 2), places.y(j) + 5], worth];
        i += n;
      }
    }
    return best;
  }

  function mapPicture(id, { width, size: words }, { etas, betas }, map) {
    const places = mapPlaces(width, etas, betas, words > 12 ? 2.3 * words : 30),
      { left, W, H } = places;
    const cells = KINDS.map(() => []);
    for (const [i, j, n, kind] of runs(map, etas.length)) {
      const { x, y, width: w, height: h } = places.box(i, j, n);
      cells[kind].push(
        `M${x.toFixed(1)} ${y.toFixed(1)}h${(w + 0.3).toFixed(1)}v${(h + 0.3).toFixed(1)}h${(-w - 0.3).toFixed(1)}z`,
      );
    }
    const areas = KINDS.map((kind, k) => {
      const [tint, over] = SWATCHES[kind],
        path = (fill) => `<path d="${cells[k].join("")}" ${fill}/>`;
      if (!cells[k].length) return "";
      return `${path('fill="var(--unseen)" shape-rendering="crispEdges"')}<g class="area" data-area="${kind}">${path(`fill="var(--${tint})" shape-rendering="crispEdges"`)}${over && path(`fill="url(#${id}-${over})"`)}</g>`;
    }).join("");
    const size = words > 12 ? words : W < 340 ? 12 : 13;
    const names = KINDS.map((key, kind) => {
      const name = regionName(key),
        wide = 0.6 * size * letters(name),
        at = nameplate(map, etas, betas, places, kind, wide);
      return at
        ? `<text class="name halo" data-name="${key}" data-wide="${wide}" data-high="${size}" style="fill:var(--ink);font-size:${size}px" x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" text-anchor="middle">${name}</text>`
        : "";
    }).join("");
    const ticks = (values, shown) => shown.map((v) => [values.indexOf(v), v]).filter(([k]) => k >= 0);
    const below = ticks(etas, [0, 0.03, 0.1, 0.3, 1, 3, 10]).map(
      ([k, v]) =>
        `<text x="${places.x(k).toFixed(1)}" y="${H + 4 + words}" text-anchor="${v === 10 ? "end" : "middle"}" dx="${v === 10 ? 5 : 0}">${v}</text>`,
    );
    const beside = ticks(betas, [0, 0.03, 0.1, 0.3, 1]).map(
      ([k, v]) =>
        `<text x="${left - 6}" y="${(places.y(k) + 0.34 * words).toFixed(1)}" text-anchor="end">${v}</text>`,
    );
    const svg = `<svg width="${width}" height="${H + 10 + words}" role="img">${areas}${below.join("")}${beside.join("")}<polyline class="trail"/>${names}
      <g class="ring"><circle class="pulse" r="11" fill="none" stroke="var(--ink)" stroke-width="2" opacity="0"/><path class="cue" d="M-21-6l-6 6 6 6M-32-6l-6 6 6 6"/><circle r="11" fill="none" stroke="var(--bg)" stroke-width="7"/><circle r="11" fill="none" stroke="var(--ink)" stroke-width="3"/><circle r="2.6" fill="var(--ink)"/></g></svg>`;
    return { places, svg };
  }

  /** Curves of both judges over the distance that π* goes, with an axis of √KL, and the rope. */
  function frontPicture(id, { width, size }, { reference, curve }, aim) {
    const high = size > 12 ? 9.5 * size : width > 480 ? 180 : 124,
      left = size > 12 ? 2.2 * size : 26,
      right = 8,
      axis = high + 8 + size,
      rope = axis + 18 + size;
    const points = [reference, ...[...curve].reverse()];
    const far = Math.sqrt(Math.max(...points.map((m) => m.kl))) * 1.03;
    const x = (kl) => left + (Math.sqrt(Math.max(kl, 0)) / far) * (width - left - right);
    const y = (v) => 16 + ((2.9 - v) / 5.2) * (high - 16);
    const [score, gold] = ["score", "gold"].map((name) => points.map((m) => [x(m.kl), y(m[name])]));
    const from = points.findIndex((m) => m.kl > 1 && m.score > m.gold + 0.02),
      hack = from >= 0 && aim !== "gold";
    const gap = hack
      ? `<polygon points="${[...score.slice(from), ...gold.slice(from).reverse()].map((p) => p.map((v) => v.toFixed(1))).join(" ")}" fill="url(#${id}-collapse)" opacity=".7"/>`
      : "";
    const end = points.length - 1,
      [s, g] = [score[end][1], gold[end][1]];
    // Each curve is named at its end: the upper one above it, the lower one on its free side, and where π* stands at the
    // end, the line down from it passes by the names.
    const above = (v) => v - 1.05 * size,
      below = (v) => v + 1.1 * size + 10;
    const label = (text, at, colour) =>
      `<text class="name halo" x="${(x(points[end].kl) - 12).toFixed(1)}" y="${at.toFixed(1)}" text-anchor="end" style="fill:var(--${colour})">${text}</text>`;
    const names =
      label(tr("reward model"), s <= g ? above(s) : below(s), "score") +
      label(tr("careful readers"), g < s ? above(g) : below(g), liking(points[end].gold));
    const ticksX = (far < 2.5 ? [1, 2, 3] : [1, 5, 10, 20])
      .filter((kl) => Math.sqrt(kl) < far)
      .map(
        (kl, k, shown) =>
          `<path d="M${x(kl).toFixed(1)} ${axis}v-5" stroke="var(--ghost)"/><text class="halo" x="${x(kl).toFixed(1)}" y="${axis + 2 + size}" text-anchor="middle">${k === shown.length - 1 ? tr("{kl} nats", { kl }) : kl}</text>`,
      );
    const ticksY = [-2, 0, 2].map(
      (v) => `<text x="${left - 7}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${number(v, 0)}</text>`,
    );
    const svg = `<svg width="${width}" height="${rope + 16 + size}" role="img"><path d="M${left} ${y(0)}H${width - right}" stroke="var(--line)" stroke-width="1.5"/><path d="M${left} ${axis}H${width - right}" stroke="var(--line)"/>${ticksY.join("")}${gap}
      ${polyline(score, 'stroke="var(--score)" stroke-width="3"')}${twoTone(gold, y(0), 3)}<g class="rule"></g>${ticksX.join("")}${names}<g class="mark"></g></svg>`;
    return { x, y, left, width, rope, size, svg };
  }

  function markOnFront(front, s) {
    const { x, y, left, width, rope: at, size } = front,
      here = x(s.kl),
      top = y(s.score),
      bottom = y(s.gold),
      // On its curve, and above or below it where it would cover the dot.
      near = Math.abs(top - bottom) < 18,
      mouth = near ? top + (bottom > top ? 18 : -18) : bottom;
    const sag = 10 * clip(1 - s.eta / 0.3, 0, 1) * Math.min(1, (here - left) / 120);
    const end = here > 0.6 * width;
    const text = `<text class="halo" x="${end ? here - 14 : here + 14}" y="${at + 13 + size}" text-anchor="${end ? "end" : "start"}" style="fill:var(--leash);font-weight:650">${tr("{kl} nats from {home}", { kl: number(s.kl, 1), home: SFT_DRAWN })}</text>`;
    const rule = `<path d="M${here} ${Math.min(top, bottom)}V${at}" stroke="var(--ink)" stroke-width="1.5" stroke-dasharray="1.5 4" stroke-linecap="round"/>`; // behind the names
    const mark = `<path d="M${left} ${at + 9}v-22M${left - 8} ${at + 9}h16" stroke="var(--ink)" stroke-width="4" stroke-linecap="round"/>${rope(left, here, at, sag)}<circle cx="${here}" cy="${at}" r="6" fill="var(--bg)" stroke="var(--leash-dark)" stroke-width="3.5"/>${text}
      <g class="face" transform="translate(${here} ${mouth}) scale(${near ? 10 : 11})">${face(s.gold)}</g><circle class="dot" cx="${here}" cy="${top}" r="6.5" fill="var(--score)" stroke="var(--bg)" stroke-width="2"/>`;
    return { rule, mark };
  }

  const judge = (shapes, value, name, colour) =>
    `${icon(shapes, 54)}<b style="color:var(--${colour})">${number(value, 2, true)}</b><figcaption>${name}</figcaption>`;

  /** Two numbers that one reads, and a quiet line with the rest. */
  function numbers(s, draws) {
    const cell = (name, value, unit, kind) =>
      `<div class="${kind}"><span>${name}</span> <b>${value}</b> <span>${unit}</span></div>`;
    return `${cell(
      tr("distance"),
      `<svg width="30" height="16" aria-hidden="true">${rope(3, 27, 6, 4, 5)}</svg>${number(s.kl)}`,
      tr("nats"),
      "eta",
    )}${cell(tr("as varied as"), count(Math.exp(s.entropy)), tr("reviews"), "beta")}<p>${[
      tr("KL(π* ‖ {home}) = {kl} nats", { home: SFT, kl: number(s.kl) }),
      tr("H(π*) = {h} nats", { h: number(s.entropy) }),
      Math.round(s.distinct) === 1
        ? tr("the same review {draws} times in a batch", { draws })
        : tr("{n} different reviews in a batch of {draws}", { n: Math.round(s.distinct), draws }),
    ]
      .map((text) => `<span>${text}</span>`)
      .join(" ")}</p>`;
  }

  /** A probability in words that everybody reads: 31%, 0.4%, 1 in 100,000, practically never. */
  function rarely(p) {
    if (p >= 0.0005) return share(p);
    if (p === 0) return tr("never");
    if (p < 1e-9) return tr("practically never");
    return tr("1 in {n}", { n: Number((1 / p).toPrecision(1)).toLocaleString("en-US") }).replaceAll(
      " ",
      "\u00a0",
    );
  }

  /** The same in a column of percentages. */
  const inColumn = (p) => (p > 0 && p < 0.0005 ? "< 0.1%" : share(p));

  /** How often π_SFT, or what else π* is compared with, says the headline. */
  function before(p, name) {
    const often = rarely(p);
    return name === "π_SFT"
      ? tr("before training: {often}", { often }).replace(": ", ":\u00a0")
      : tr("{name}: {often}", { name, often });
  }

  /** π*(y) of any review y: it is known up to a factor, which its first review tells. */
  function probabilities({ tables }, s, aim) {
    const { ref, gold, score } = tables,
      r = aim === "gold" ? gold : score,
      tau = s.eta + s.beta,
      [first] = s.said;
    return (y) =>
      first.p *
      Math.exp(tau ? (s.eta * (ref[y] - ref[first.index]) + r[y] - r[first.index]) / tau : -Infinity);
  }

  /** Numbers from 0 to 1, the same after each start (mulberry32). */
  function stream(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** Indices of `n` reviews, drawn from π*: any review, each kept with probability π*(y) / π*(first). Exact, and cheap
   *  where no review is frequent: π*(first) · N tries on average. */
  function sample(world, s, aim, n, random) {
    const p = probabilities(world, s, aim),
      size = world.tables.ref.length,
      drawn = [];
    while (drawn.length < n) {
      const y = Math.floor(size * random());
      if (random() * s.said[0].p < p(y)) drawn.push(y);
    }
    return drawn;
  }

  /** What π_SFT, or what else π* is compared with, says most often, and π* hardly ever: at most `n` of its favourites. */
  function gone(world, s, aim, n) {
    const { tables } = world,
      compared = tables.compared ?? tables.ref,
      p = probabilities(world, s, aim);
    world.favourites ??= favourites(compared, GONE + 2);
    return world.favourites
      .map((y) => ({ index: y, p: p(y), compared: Math.exp(compared[y]), gold: tables.gold[y] }))
      .filter(
        (one) =>
          one.p < one.compared / 20 && s.said.every((said) => said.index !== one.index || said.p < LEAST),
      )
      .slice(0, n);
  }

  /** The indices of the `n` largest values. */
  function favourites(logprobs, n) {
    const best = [];
    logprobs.forEach((x, y) => {
      if (best.length === n && x <= logprobs[best[n - 1]]) return;
      best.push(y);
      best.sort((a, b) => logprobs[b] - logprobs[a]);
      best.length = Math.min(best.length, n);
    });
    return best;
  }

  /** Draw an explorer into `root`; returns a function that takes it away. */
  function mount(root, host) {
    const id = `rlhf-${Math.random().toString(36).slice(2, 9)}`; // two explorers may share a page
    const { constants } = host,
      { etas, betas, words, comparedName, draws } = constants,
      values = { eta: etas, beta: betas };
    root.classList.add("rlhf-front", "rlhf-explorer");
    root.innerHTML = skeleton(id, constants);
    const find = (selector) => root.querySelector(selector),
      all = (selector) => [...root.querySelectorAll(selector)];
    // JupyterLab and Notebook take arrow keys for themselves unless the focused element says no.
    for (const input of all("input, button")) input.dataset.lmSuppressShortcuts = "true";
    const worlds = new Map(),
      found = new Map(), // of each kind the place that shows it best
      calm = matchMedia("(prefers-reduced-motion: reduce)"),
      trail = [];
    let drawn = null,
      map = null,
      front = null,
      frame = 0,
      again = false,
      hold = false,
      wide = 0, // as the browser has told: asking for it would lay out the whole page, each time
      playing = 0,
      greying = 0,
      speaking = 0,
      shownGuide = "",
      here = null,
      width = 0,
      open = false, // all places are shown, found or not
      drawnAt = "", // for which place, and which reviews: a new draw for each move
      drawnThere = [];
    const random = stream(7);
    const wish = () => ({
      prompt: host.get("prompt"),
      score: host.get("score"),
      eta: host.get("eta"),
      beta: host.get("beta"),
    });
    const key = ({ prompt, score }) => `${prompt} ${score}`;
    const hint = (text) => {
      find(".hint").textContent = text;
    };
    /** How many places are found, and what to try next. */
    const guide = () => {
      const next = ORDER.find((kind) => !found.has(kind)),
        tally = tr("{n} of {all} found", { n: found.size, all: KINDS.length });
      const [ring, thumbs] = !constants.panels.includes("map")
        ? [tr("Move a slider")]
        : next
          ? quest(next, host.get("score"))
          : [whatNext()];
      const text = thumbs
        ? `<span class="by-ring">${ring}</span><span class="by-thumbs">${thumbs}</span>`
        : ring;
      const key = tally + text + open;
      if (shownGuide === key && find(".tally")) return;
      shownGuide = key;
      const all = next && !open ? ` <button class="all" type="button">${tr("Show all")}</button>` : "";
      find(".hint").innerHTML = `<span class="tally">${tally}</span> ${text}${all}`;
    };
    const whatNext = () => {
      const { ppo, cockpit } = host.links ?? {},
        link = (address, text) => (address ? `<a href="${escaped(address)}">${text}</a>` : text);
      return tr("η and β decide what π* says. Does PPO get there? See {ppo}, {cockpit}.", {
        ppo: link(ppo, tr("notebook 09")),
        cockpit: link(cockpit, tr("the cockpit")),
      });
    };
    const fail = (text) => {
      find(".trouble").textContent = text;
    };

    function draw() {
      const wanted = wish(),
        world = worlds.get(key(wanted));
      controls(wanted);
      if (!world) return fetchWorld(wanted);
      clearTimeout(greying);
      root.classList.remove("stale");
      if (drawn !== world) trail.length = 0;
      if (drawn !== world || width !== wide) background(world, wanted);
      const began = performance.now();
      const { reference } = world.still,
        { score, eta, beta } = wanted;
      const s =
        host.solve?.(wanted, reference) ?? rlhfOptimum.solve(world.tables, score, eta, beta, reference);
      s.first = rlhfOptimum.text(s.said[0].index, words);
      s.drawn = drawnHere(s, world, wanted);
      root.state = { ...wanted, ...s, aim: wanted.score };
      root.solveMs = performance.now() - began;
      show(s, world, wanted);
      root.drawMs = performance.now() - began;
      root.draws = (root.draws ?? 0) + 1;
    }

    /** Where no review is frequent: some that are drawn at random, others after each move. */
    function drawnHere(s, { tables }, wanted) {
      if (s.said[0].p >= RARE) return [];
      const at = JSON.stringify(wanted);
      if (at !== drawnAt) [drawnAt, drawnThere] = [at, sample({ tables }, s, wanted.score, DRAWN, random)];
      const p = probabilities({ tables }, s, wanted.score),
        compared = tables.compared ?? tables.ref;
      return drawnThere.map((y) => ({
        index: y,
        text: rlhfOptimum.text(y, words),
        p: p(y),
        compared: Math.exp(compared[y]),
        gold: tables.gold[y],
      }));
    }

    // At once, so that the next frame shows it; what else comes in this frame waits for the next.
    const update = () => {
      if (hold) return;
      if (frame) {
        again = true;
        return;
      }
      frame = requestAnimationFrame(() => {
        frame = 0;
        if (again) {
          again = false;
          update();
        }
      });
      draw();
    };

    async function fetchWorld(wanted) {
      greying ||= setTimeout(() => root.classList.add("stale"), 150);
      find(".wait").textContent = tr("Reading all reviews of “{prompt}”", wanted);
      try {
        const world = await host.world(wanted.prompt, wanted.score);
        const wrong = rlhfOptimum.trouble(world.tables, wanted.prompt);
        if (wrong) throw new Error(wrong);
        worlds.set(key(wanted), world);
        greying = void clearTimeout(greying);
        fail("");
        update();
      } catch (error) {
        find(".wait").textContent = error.message;
        fail(error.message);
      }
    }

    /** Ask for the other worlds too, one after the other, so that a click never waits for them. */
    async function prefetch() {
      for (const prompt of constants.prompts)
        for (const score of constants.scores) {
          if (worlds.has(key({ prompt, score }))) continue;
          const world = await host.world(prompt, score).catch(() => null);
          if (world && !rlhfOptimum.trouble(world.tables, prompt)) worlds.set(key({ prompt, score }), world);
        }
    }

    function controls({ prompt, score, eta, beta }) {
      for (const [name, value] of [
        ["prompt", prompt],
        ["score", score],
      ])
        find(`[data-of=${name}][value="${value}"]`).checked = true;
      for (const [name, value] of [
        ["eta", eta],
        ["beta", beta],
      ]) {
        const input = find(`[data-of=${name}]`),
          k = values[name].indexOf(value),
          typed = find(`[data-typed=${name}]`);
        input.value = k;
        input.style.setProperty("--at", `${(100 * k) / (values[name].length - 1)}%`);
        input.setAttribute("aria-valuetext", String(value));
        if (root.ownerDocument.activeElement !== typed || typed.dataset.done) typed.value = value;
      }
    }

    function background(world, { prompt, score }) {
      [drawn, width] = [world, wide];
      const room = (selector) => Math.floor(find(selector).clientWidth) || 340;
      const size = parseFloat(getComputedStyle(find(".map")).fontSize); // of the words on axes
      map = mapPicture(id, { width: room(".map"), size }, constants, Array.from(world.still.map, Number));
      front = frontPicture(id, { width: room(".front"), size }, world.still, score);
      find(".map").innerHTML = map.svg;
      uncover();
      find(".front").innerHTML = `<h3>${tr("What distance buys")}</h3>${front.svg}`;
      find(".about").innerHTML = tr("what π* says of <b>{prompt}</b>", { prompt: escaped(prompt) });
      find(".by").innerHTML = tr("how often {name} says it", { name: printed(comparedName) });
    }

    function show(s, world, wanted) {
      const { score, eta, beta } = wanted,
        { reference } = world.still,
        first = s.said[0];
      find(".chip").textContent = regionName(s.kind);
      find(".chip").className = `chip ${REGIONS[s.kind]}`;
      find(".meaning").innerHTML = printed(
        s.eta + s.beta === 0 ? tr("nothing holds π*") : meanings()[s.kind],
      );
      const [drawn] = s.drawn,
        text = drawn?.text ?? s.first,
        instance = drawn ? `<small>${tr("for instance, drawn at random:")}</small>` : "";
      find(".headline").innerHTML = `${instance}<span>“${escaped(text)}”</span>`;
      find(".headline").classList.toggle("is-one-of-many", Boolean(drawn));
      find(".headline").style.setProperty("--letters", text.length);
      find(".of").innerHTML = drawn
        ? tr("no single review is more than {p}% of what it says", { p: Math.ceil(1000 * first.p) / 10 })
        : tr("is <b>{p}</b> of what it says; {before}", {
            p: rarely(first.p),
            before: printed(before(first.compared, comparedName)),
          });
      find(".by-model").innerHTML = judge(
        gauge(s.score),
        s.score,
        tr("<strong>reward model</strong> (score)"),
        "score",
      );
      find(".by-readers").innerHTML = judge(
        face(s.gold),
        s.gold,
        tr("<strong>careful readers</strong> (gold score)"),
        liking(s.gold),
      );
      find(".by-readers").classList.toggle("is-bad", s.gold < -1);
      const others = eta + beta === 0 ? world.tables.ref.length - 1 : 0;
      rows(s, LOSSES.includes(s.kind) ? lostOnes(world, s, score, others) : [], others);
      find(".nums").innerHTML = numbers(s, draws);
      find(".bill").innerHTML = bill(s, reference, score);
      find(".why").textContent = reasons(score)[s.kind];
      const { rule, mark } = markOnFront(front, s);
      find(".rule").innerHTML = rule;
      find(".mark").innerHTML = mark;
      ring(eta, beta);
      find(".map svg").setAttribute(
        "aria-label",
        tr("Map of η and β; the ring is at η {eta}, β {beta}, in {kind}.", {
          eta,
          beta,
          kind: regionName(s.kind),
        }),
      );
      find(".front svg").setAttribute(
        "aria-label",
        `${tr("Both scores over the distance from π_SFT.")} ${spoken(s)}`,
      );
      goals(s, wanted);
      clearTimeout(speaking);
      speaking = setTimeout(() => {
        find(".heard").textContent = spoken(s);
      }, 900);
    }

    /** What is no longer said: two rows of it, or as many as what is still said leaves free. */
    function lostOnes(world, s, score, others) {
      const said = s.said.filter(({ p }) => p >= LEAST).length + (others ? 1 : 0);
      return gone(world, s, score, clip(ROWS - said, LOST, GONE));
    }

    /** `others`: how many reviews are never said, where only one is. Where no review is frequent, the first row is for
     *  all that have no row of their own, and random draws stand before the most frequent ones. */
    function rows(s, lost, others) {
      const drawn = s.drawn.filter(({ index }, k) => s.drawn.findIndex((one) => one.index === index) === k),
        taken = new Set(drawn.map(({ index }) => index)),
        free = ROWS - lost.length - drawn.length - (drawn.length || others ? 1 : 0);
      const frequent = s.said.filter(
          ({ index, p }) => !taken.has(index) && (p >= LEAST || !lost.length || drawn.length),
        ),
        ones = [...drawn, ...frequent.slice(0, free)],
        rest = drawn.length ? remainder(s, ones) : null;
      const shown = [...(rest ? [rest] : []), ...ones, ...(others ? [{ others }] : []), ...lost],
        full = scale(Math.max(...shown.flatMap(({ p, compared }) => [p ?? 0, compared ?? 0])));
      find(".full").textContent = tr("full width = {p}%", { p: +(100 * full).toPrecision(2) });
      find(".rows ol").className = `${lost.length ? "lost" : ""} ${rest ? "many" : ""}`;
      all(".row").forEach((line, k) => {
        const one = shown[k];
        if (!one) line.className = "row none";
        else if (one.others) {
          line.className = "row note";
          line.querySelector(".text").textContent = tr("0 of the other {n}", {
            n: one.others.toLocaleString("en-US"),
          });
        } else
          bar(line, one, full, { rest: one === rest, drawn: taken.has(one.index), away: lost.indexOf(one) });
      });
    }

    /** One row. `away`: the how manieth of those that are no longer said, or −1. */
    function bar(line, one, full, { rest, drawn, away }) {
      const gone = away >= 0,
        percent = (p) => `${((100 * p) / full).toFixed(2)}%`;
      line.className = [
        "row",
        one.gold < 0 && "bad",
        rest && "rest",
        gone && "gone",
        away === 0 && "is-first",
      ]
        .filter(Boolean)
        .join(" ");
      line.querySelector(".text").textContent = rest
        ? tr("the other {n}", { n: one.n.toLocaleString("en-US") })
        : rlhfOptimum.text(one.index, words);
      line.querySelector("i").style.width = percent(gone ? one.compared : one.p);
      line.querySelector(".tick").style.left = percent(one.compared ?? 0);
      const behind = line.querySelector(".bar b"),
        longest = Math.max(one.p, one.compared ?? 0);
      behind.style.left = gone && one.compared > 0.35 * full ? 0 : percent(longest); // else no room behind it
      if (gone)
        behind.textContent = tr("was {before}, now {now}", {
          before: rarely(one.compared),
          now: rarely(one.p),
        });
      else {
        const often = rest ? `${(100 * one.p).toFixed(one.p < 0.995 ? 0 : 1)}%` : inColumn(one.p);
        behind.innerHTML = escaped(often) + (drawn ? ` <small>${tr("drawn at random")}</small>` : "");
      }
      line.querySelector(".gold").innerHTML = `${number(one.gold, 1, true)}${icon(face(one.gold), 22)}`;
    }

    /** All reviews that have no row of their own: how often π* says one of them, and what readers think of them. */
    function remainder(s, ones) {
      const p = 1 - ones.reduce((sum, one) => sum + one.p, 0),
        gold = (s.gold - ones.reduce((sum, one) => sum + one.p * one.gold, 0)) / p;
      return { p: Math.min(p, 0.9994), gold, n: drawn.tables.ref.length - ones.length };
    }

    function ring(eta, beta) {
      const at = [map.places.x(etas.indexOf(eta)), map.places.y(betas.indexOf(beta))];
      find(".ring").setAttribute("transform", `translate(${at.map((v) => v.toFixed(1)).join(" ")})`);
      all(".map [data-name]").forEach((name) => stepAside(name, at));
      const last = trail.at(-1);
      if (!last || last[0] !== eta || last[1] !== beta) trail.push([eta, beta]);
      if (trail.length > TRAIL) trail.shift();
      if (trail.length > 1) root.classList.add("moved");
      find(".trail").setAttribute(
        "points",
        trail
          .map(
            ([e, b]) =>
              `${map.places.x(etas.indexOf(e)).toFixed(1)},${map.places.y(betas.indexOf(b)).toFixed(1)}`,
          )
          .join(" "),
      );
    }

    /** A name on the map goes up or down where the ring would cover it. */
    function stepAside(name, [x, y]) {
      const { wide, high } = name.dataset,
        apart = 17 + 0.75 * high;
      const [across, down] = [x - name.getAttribute("x"), y - (name.getAttribute("y") - 0.35 * high)];
      const near = Math.abs(across) < wide / 2 + 14 && Math.abs(down) < apart;
      name.setAttribute("dy", near ? (down > 0 ? down - apart : down + apart).toFixed(0) : 0);
    }

    /** On the map, what is not found yet is grey, without a name; the one that was found just now is flooded. */
    function uncover(now) {
      for (const area of all("[data-area]")) {
        const kind = area.dataset.area,
          seen = open || found.has(kind);
        area.classList.toggle("is-unseen", !seen);
        if (kind === now && seen && !open && !calm.matches) flood(area);
      }
      for (const name of all("[data-name]")) {
        const kind = name.dataset.name,
          seen = open || found.has(kind);
        name.textContent = seen ? regionName(kind) : "?";
        name.classList.toggle("is-unseen", !seen);
      }
    }

    function flood(area) {
      const [x, y] = find(".ring")
          .getAttribute("transform")
          ?.match(/[\d.]+/g) ?? [0, 0],
        from = (r) => `circle(${r}px at ${x}px ${y}px) view-box`;
      area.animate([{ clipPath: from(0) }, { clipPath: from(1.3 * width) }], {
        duration: 700,
        easing: "cubic-bezier(0.4, 0, 0.6, 1)",
      });
    }

    /** Remember where each kind was seen best. A new one is felt: its card and the ring answer, once. */
    function goals(s, place) {
      const known = found.get(s.kind),
        value = worth(s);
      if (!known || value > known.value) found.set(s.kind, { ...place, value });
      if (!known) {
        cards();
        uncover(found.size > 1 ? s.kind : undefined);
      }
      if (here !== s.kind || !known) {
        here = s.kind;
        all(".goals li").forEach((card, k) => card.classList.toggle("is-here", KINDS[k] === here));
      }
      if (known) return;
      guide();
      if (found.size > 1 && !calm.matches) celebrate(find(`[data-go="${s.kind}"]`));
    }

    function cards() {
      const focused = root.ownerDocument.activeElement?.dataset?.go;
      find(".goals").innerHTML = KINDS.map((name) => {
        const [tint, over] = SWATCHES[name],
          swatch = `<svg width="16" height="16" aria-hidden="true"><rect width="16" height="16" rx="4" fill="var(--${tint})"/>${over && `<rect width="16" height="16" rx="4" fill="url(#${id}-${over})"/>`}<rect x=".6" y=".6" width="14.8" height="14.8" rx="3.6" fill="none" stroke="var(--edge)" stroke-width="1.2"/></svg>`;
        if (found.has(name))
          return `<li class="found ${REGIONS[name]}"><button type="button" data-go="${name}" data-lm-suppress-shortcuts="true" title="${tr("Back to this place")}"><b>✓ ${regionName(name)}</b></button></li>`;
        return `<li title="${tr("not found yet")}"><span>${open ? swatch : ""}<b>${open ? regionName(name) : `?<span class="heard">${tr("not found yet")}</span>`}</b></span></li>`;
      }).join("");
      if (focused) find(`[data-go="${focused}"]`)?.focus();
    }

    function celebrate(card) {
      card.animate([{ transform: "scale(0.9)" }, { transform: "scale(1.07)" }, { transform: "none" }], {
        duration: 420,
        easing: "cubic-bezier(0.2, 0.7, 0.2, 1)",
      });
      find(".pulse")?.animate(
        [
          { opacity: 0.9, transform: "scale(1)" },
          { opacity: 0, transform: "scale(3)" },
        ],
        { duration: 600, easing: "ease-out" },
      );
    }

    /** Back to where a kind was seen best. */
    function goBack(name) {
      const place = found.get(name);
      if (!place) return;
      hold = true; // one picture for all four
      for (const key of ["prompt", "score", "eta", "beta"]) host.set(key, place[key], true);
      hold = false;
      guide();
      update();
    }

    const move = (name, k, done) => host.set(name, values[name][k], done);
    const sweep = () => {
      const last = etas.length - 1,
        button = find(".play");
      let began = null,
        shown = -1;
      const stop = () => {
        cancelAnimationFrame(playing);
        playing = 0;
        button.setAttribute("aria-pressed", "false");
        button.textContent = tr("Let the leash go, slowly");
      };
      if (playing) return stop;
      button.setAttribute("aria-pressed", "true");
      button.textContent = tr("Stop");
      playing = requestAnimationFrame(function step(now) {
        began ??= now;
        const k = Math.round(last * (1 - Math.min(1, (now - began) / SWEEP)));
        if (k !== shown) move("eta", (shown = k), k === 0);
        if (k === 0) stop();
        else playing = requestAnimationFrame(step);
      });
      return stop;
    };
    let stop = () => {};

    function typed(field) {
      const name = field.dataset.typed,
        last = values[name].at(-1),
        asked = asNumber(field.value);
      field.dataset.done = "true";
      if (!(asked >= 0 && asked <= last))
        hint(tr("“{typed}” is not a number from 0 to {last}", { typed: field.value, last }));
      else {
        const k = nearest(values[name], asked);
        const place = values[name][k];
        if (place === asked) guide();
        else hint(tr("The position nearest to {asked} is {place}", { asked, place }));
        move(name, k, true);
      }
      update();
    }

    function heard(event) {
      const { of, typed: field } = event.target.dataset,
        done = event.type === "change";
      if (field) {
        if (done) typed(event.target);
        else delete event.target.dataset.done;
        return;
      }
      if (!of) return;
      if (of in values) move(of, Number(event.target.value), done);
      else host.set(of, event.target.value, done);
      guide();
    }

    function dragged(event) {
      const box = find(".map svg")?.getBoundingClientRect();
      if (!box || !map) return;
      const done = event.type === "pointerup";
      hold = true; // one picture for both
      move("eta", map.places.eta(event.clientX - box.left), done);
      move("beta", map.places.beta(event.clientY - box.top), done);
      hold = false;
      update();
    }

    const pressed = (event) =>
      event.target.closest?.(".play") && [undefined, "Enter", " "].includes(event.key);
    const halt = (event) => {
      if (playing && !pressed(event)) stop();
    };
    const mapBox = find(".map");
    let dragging = false;
    const listeners = [
      [root, "input", heard],
      [root, "change", heard],
      [root, "pointerdown", halt],
      [root, "keydown", halt],
      [
        find(".play"),
        "click",
        () => {
          root.classList.add("swept");
          if (playing) stop();
          else stop = sweep();
        },
      ],
      [
        find(".goals"),
        "click",
        (event) => {
          const button = event.target.closest?.("[data-go]");
          if (button) goBack(button.dataset.go);
        },
      ],
      [
        find(".hint"),
        "click",
        (event) => {
          if (!event.target.closest?.(".all")) return;
          open = true;
          uncover();
          cards();
          guide();
        },
      ],
      [
        mapBox,
        "pointerdown",
        (event) => {
          dragging = true;
          mapBox.setPointerCapture(event.pointerId);
          event.preventDefault();
          guide();
          dragged(event);
        },
      ],
      [
        mapBox,
        "pointermove",
        (event) => {
          if (dragging) dragged(event);
        },
      ],
      [
        mapBox,
        "pointerup",
        (event) => {
          if (dragging) dragged(event);
          dragging = false;
        },
      ],
      [
        mapBox,
        "pointercancel",
        () => {
          dragging = false;
        },
      ],
    ];
    for (const [target, kind, listener] of listeners) target.addEventListener(kind, listener);
    const resized = new ResizeObserver(([entry]) => {
      wide = entry.contentRect.width;
      if (drawn && width !== wide) update();
    });
    resized.observe(find(".sheet"));
    const undo = ["prompt", "score", "eta", "beta"].map((name) => host.on(name, update));
    undo.push(host.trouble(fail));
    guide();
    update();
    Promise.resolve(host.world(host.get("prompt"), host.get("score"))).then(prefetch, () => {});
    return () => {
      stop();
      cancelAnimationFrame(frame);
      clearTimeout(speaking);
      resized.disconnect();
      for (const off of undo) off();
      for (const [target, kind, listener] of listeners) target.removeEventListener(kind, listener);
      root.innerHTML = "";
    };
  }

  return { mount, bill, reasons, sample, stream, rarely, KINDS };
})();
