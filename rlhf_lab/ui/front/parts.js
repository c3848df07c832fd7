"use strict";
// What all pictures of the course are made of: numbers as readers see them, the two judges, the
// rope. Functions that return text, HTML or SVG; colours are names of front.css.

const rlhfParts = (() => {
  /** Each English message with its translation: a page of the site brings them, or a kernel. None: English is spoken. */
  let messages = globalThis.RLHF_MESSAGES ?? {};
  const speak = (translations) => {
    messages = translations;
  };

  /** A message as the reader says it, with its {placeholders} filled in. Numbers are the same in every language. */
  const tr = (message, values = {}) =>
    (messages[message] ?? message).replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);

  /** With a real minus sign and without −0.00; "–" for what is not a number. */
  function number(x, digits = 2, sign = false) {
    if (Number.isNaN(x)) return "–";
    const size = Math.abs(x).toFixed(digits);
    const minus = x < 0 && Number(size) > 0;
    return (minus ? "−" : sign ? "+" : "") + size;
  }

  const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const raised = (n) => [...String(n)].map((digit) => RAISED[digit]).join("");

  /** A probability in at most five characters: 31%, 0.4%, and below that 10⁻⁷. */
  function share(p) {
    if (p === 0 || p >= 0.0995) return `${(100 * p).toFixed(0)}%`;
    if (p >= 0.0005) return `${(100 * p).toFixed(1)}%`;
    return `10⁻${raised(Math.round(-Math.log10(p)))}`;
  }

  /** How many, of what need not be whole: 4.1, 382,362. */
  const count = (x) => (x >= 100 ? Math.round(x).toLocaleString("en-US") : number(x, 1));

  const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  const escaped = (text) => String(text).replace(/[&<>"]/g, (letter) => ESCAPES[letter]);

  /** π_SFT as it is printed, with a small SFT below; in HTML, and in SVG. */
  const SFT = "π<sub>SFT</sub>";
  const SFT_DRAWN = 'π<tspan dy=".28em" style="font-size:.78em">SFT</tspan>';
  const printed = (text) => escaped(text).replaceAll("π_SFT", SFT);

  /** The least of 100, 50, 25, 10, 5, 2.5, … % that is at least p: what a bar's full width means. */
  function scale(p) {
    let full = 1;
    for (let k = 0; k < 60; k++) {
      const next = full * (k % 3 === 2 ? 0.4 : 0.5);
      if (next < p) break;
      full = next;
    }
    return full;
  }

  const clip = (x, low, high) => Math.min(high, Math.max(low, x));

  /** Nearer to 0 than this, nobody likes or dislikes it. */
  const NEUTRAL = 0.1;

  /** The colour of a gold score: grey where careful readers neither like nor dislike it. */
  const liking = (gold) => (gold >= NEUTRAL ? "liked" : gold <= -NEUTRAL ? "bad" : "plain");

  /** What readers call a region. */
  const regionName = (kind) =>
    ({
      collapse: tr("collapse"),
      useful: tr("useful"),
      frozen: tr("frozen"),
      "word salad": tr("word salad"),
      "one good answer": tr("one good answer"),
    })[kind] ?? "";

  /** The class of a region's chip. */
  const REGIONS = {
    collapse: "is-collapse",
    useful: "is-useful",
    frozen: "is-frozen",
    "word salad": "is-word",
    "one good answer": "is-one",
  };

  /** Careful readers: a face whose mouth is the gold score. Shapes within ±1. */
  function face(gold) {
    const mood = Math.abs(gold) < NEUTRAL ? 0 : clip(gold / 2.4, -1, 1),
      colour = liking(gold);
    const mouth = `M-.48 ${(0.36 - 0.12 * mood).toFixed(2)}q.48 ${(0.56 * mood).toFixed(2)} .96 0`;
    const brows = gold < -1 ? `<path d="M-.56-.46l.34.14M.56-.46l-.34.14" stroke-width=".1"/>` : "";
    return `<g fill="none" stroke="var(--${colour})" stroke-width=".15" stroke-linecap="round">
      <circle r=".92" fill="var(--${colour}-tint)"/>${brows}<path d="${mouth}"/></g>
      <g fill="var(--${colour})"><circle cx="-.34" cy="-.14" r=".13"/><circle cx=".34" cy="-.14" r=".13"/></g>`;
  }

  /** The reward model: a square gauge whose needle is the score. Shapes within ±1. */
  function gauge(score) {
    const angle = 1.2 * clip(score / 2.4, -1, 1);
    const tip = `${(0.8 * Math.sin(angle)).toFixed(2)} ${(0.48 - 0.8 * Math.cos(angle)).toFixed(2)}`;
    return `<rect x="-.92" y="-.92" width="1.84" height="1.84" rx=".36" fill="var(--score-tint)" stroke="var(--score)" stroke-width=".15"/>
      <path d="M-.62.36a.66.66 0 0 1 1.24 0" fill="none" stroke="var(--score)" stroke-width=".11" opacity=".55"/>
      <path d="M0 .48L${tip}" stroke="var(--score)" stroke-width=".17" stroke-linecap="round"/><circle cy=".48" r=".17" fill="var(--score)"/>`;
  }

  /** A face or a gauge as a picture of its own; hidden from those who hear its number anyway. */
  const icon = (shapes, size) =>
    `<svg width="${size}" height="${size}" viewBox="-1 -1 2 2" aria-hidden="true">${shapes}</svg>`;

  /** A rope along a horizontal line, of two strands; `sag` in px, 0 if it is taut. */
  function rope(x, to, y, sag, width = 5) {
    const way = `M${x} ${y}Q${(x + to) / 2} ${y + 2 * sag} ${to} ${y}`;
    const strand = (colour, w, dashes) =>
      `<path d="${way}" stroke="var(--${colour})" stroke-width="${w}" ${dashes}/>`;
    return `<g fill="none" stroke-linecap="round">${strand("leash-dark", width, "")}
      ${strand("leash-fill", 0.6 * width, `stroke-dasharray="${0.9 * width} ${0.7 * width}"`)}</g>`;
  }

  /** Textures, so that no meaning hangs on a colour alone; `id` keeps two widgets apart. */
  const textures = (id) => `<svg class="textures" width="0" height="0" aria-hidden="true"><defs>
    <pattern id="${id}-collapse" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M4 0v8" stroke="var(--bad-fill)" stroke-width="2.2" opacity=".45"/></pattern>
    <pattern id="${id}-salad" width="10" height="10" patternUnits="userSpaceOnUse"><g fill="var(--many-fill)" opacity=".65"><circle cx="2.5" cy="2.5" r="1.4"/><circle cx="7.5" cy="7.5" r="1.4"/></g></pattern>
    <pattern id="${id}-frozen" width="8" height="6" patternUnits="userSpaceOnUse"><path d="M0 3h8" stroke="var(--ghost)" opacity=".4"/></pattern></defs></svg>`;

  const polyline = (points, paint) =>
    `<polyline fill="none" stroke-linejoin="round" ${paint} points="${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")}"/>`;

  /** A curve of the gold score: solid teal where it is above `zero`, dashed vermilion below. */
  function twoTone(points, zero, width) {
    const pieces = [[points[0]]];
    for (let k = 1; k < points.length; k++) {
      const [a, b] = [points[k - 1], points[k]];
      if ((a[1] - zero) * (b[1] - zero) < 0) {
        const cross = [a[0] + ((zero - a[1]) / (b[1] - a[1])) * (b[0] - a[0]), zero];
        pieces.at(-1).push(cross);
        pieces.push([cross]);
      }
      pieces.at(-1).push(b);
    }
    return pieces
      .map((piece) => {
        const bad = Math.max(...piece.map(([, y]) => y)) > zero + 0.05;
        const paint = bad ? `stroke="var(--bad-fill)" stroke-dasharray="8 5"` : `stroke="var(--liked-fill)"`;
        return polyline(piece, `${paint} stroke-width="${width}"`);
      })
      .join("");
  }

  /** How wide a text is, in letters: a Chinese one is as wide as it is high. */
  const letters = (text) => text.length + 0.7 * (text.match(/[\u2e80-\uffef]/g)?.length ?? 0);
  const flagWidth = (text, size) => 0.6 * size * letters(text) + 12;

  /** A flag: what was moved, and to where. It begins at `from`; `open` draws what is no move as an outline. */
  function flag(from, top, text, size = 13, open = false) {
    const width = flagWidth(text, size),
      [fill, ink] = open ? ["var(--bg)", "var(--ink)"] : ["var(--ink)", "var(--bg)"];
    return `<rect x="${from}" y="${top}" width="${width}" height="${1.6 * size}" rx="2" fill="${fill}" stroke="var(--ink)" stroke-width="1.5"/>
      <text x="${from + width / 2}" y="${top + 1.17 * size}" text-anchor="middle" style="fill:${ink};font-weight:650;font-size:${size}px">${text}</text>`;
  }

  /** The vertical line through a chart that a flag hangs on. */
  const pole = (x, top, bottom, open = false) =>
    `<path d="M${x} ${top}V${bottom}" stroke="var(--ink)" stroke-width="1.5" ${open ? 'stroke-dasharray="3 3"' : ""}/>`;

  /** π*, and nothing else: yellow as in all figures, or in the colour of what is measured there. */
  function star(x, y, r, fill = "#f0e442", edge = "#1a1a1c") {
    const points = Array.from({ length: 10 }, (_, k) => {
      const angle = (k * Math.PI) / 5 - Math.PI / 2,
        far = k % 2 ? 0.45 * r : r;
      return `${(x + far * Math.cos(angle)).toFixed(1)},${(y + far * Math.sin(angle)).toFixed(1)}`;
    });
    return `<polygon points="${points.join(" ")}" fill="${fill}" stroke="${edge}" stroke-width="1.6" stroke-linejoin="round"/>`;
  }

  /** The position that is nearest to a value, as an index. */
  const nearest = (positions, value) =>
    positions.reduce((best, x, k) => (Math.abs(x - value) < Math.abs(positions[best] - value) ? k : best), 0);

  /** A slider with a letter and a field that can be typed into. */
  const slider = (name, letter, what, ends, last) => `<div class="${name}">
    <input type="range" data-of="${name}" min="0" max="${last}" aria-label="${letter}, ${what}">
    <div class="says"><span class="end">${ends[0]}</span><label><span class="voice">${letter}</span><input class="typed" data-typed="${name}" inputmode="decimal" autocomplete="off" aria-label="${tr("{letter}, to be typed", { letter })}"></label><span class="end">${ends[1]}</span></div></div>`;

  /** A number that somebody typed, with a comma or a point; NaN if it is none. */
  const asNumber = (text) => Number(text.trim().replace(",", ".") || NaN);

  return {
    speak,
    tr,
    regionName,
    letters,
    NEUTRAL,
    REGIONS,
    SFT,
    SFT_DRAWN,
    printed,
    liking,
    flag,
    pole,
    flagWidth,
    star,
    nearest,
    slider,
    asNumber,
    number,
    share,
    count,
    raised,
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
  };
})();
