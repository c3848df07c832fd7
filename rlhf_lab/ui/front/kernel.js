"use strict";
// The hosts in notebooks. Explorer: settings are traits of the widget, and what is large comes from
// the kernel as answers to questions of the page. Cockpit: orders to the kernel, news from it.

const rlhfKernel = (() => {
  const TABLES = ["ref", "score", "gold", "compared"];
  const { speak, tr } = rlhfParts;
  const lost = () =>
    tr(
      "The kernel was restarted or has gone: what you move here is no longer in Python. Run this cell again.",
    );

  const floats = (view) =>
    new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

  /** Listen to events of the model; gives the function that undoes it. */
  function listening(model, kinds, callback) {
    for (const kind of kinds) model.on(kind, callback);
    return () => {
      for (const kind of kinds) model.off(kind, callback);
    };
  }

  const trouble = (model) => (callback) =>
    listening(model, ["comm_live_update", "comm:close"], () => callback(lost()));

  function explorer(model) {
    const asked = new Map(),
      waiting = new Map(),
      tables = new Map();
    model.on("msg:custom", ({ answer, trouble, ...content }, buffers) => {
      const [done, failed] = waiting.get(answer) ?? [];
      if (trouble) failed?.(new Error(trouble));
      else done?.({ ...content, buffers });
    });
    const ask = (what) => {
      const key = JSON.stringify(what);
      if (!asked.has(key)) {
        const answer = new Promise((done, failed) => waiting.set(key, [done, failed]));
        asked.set(
          key,
          answer.catch((error) => {
            asked.delete(key);
            throw error;
          }),
        );
        model.send({ ask: key, ...what });
      }
      return asked.get(key);
    };
    const tablesOf = async (prompt) => {
      const { buffers } = await ask({ tables: prompt });
      if (!tables.has(prompt))
        tables.set(prompt, Object.fromEntries(buffers.map((view, k) => [TABLES[k], floats(view)])));
      return tables.get(prompt);
    };
    let timer = 0;
    return {
      constants: model.get("constants"),
      get: (name) => model.get(name),
      set(name, value, done) {
        model.set(name, value);
        clearTimeout(timer);
        if (done) model.save_changes();
        else timer = setTimeout(() => model.save_changes(), 150);
      },
      on: (name, callback) => listening(model, [`change:${name}`], callback),
      async world(prompt, score) {
        const [t, { still }] = await Promise.all([tablesOf(prompt), ask({ still: prompt, score })]);
        return { tables: t, still };
      },
      trouble: trouble(model),
    };
  }

  const cockpit = (model) => ({
    constants: model.get("constants"),
    send: (order) => model.send(order),
    listen: (callback) => listening(model, ["msg:custom"], callback),
    trouble: trouble(model),
  });

  /** anywidget's `render`; all views of one widget share a host. */
  function render(mount, host) {
    const hosts = new WeakMap();
    return ({ model, el }) => {
      if (!hosts.has(model)) hosts.set(model, host(model));
      speak(model.get("constants").messages);
      el.lang = tr("en"); // the shape of a Chinese letter hangs on it
      return mount(el, hosts.get(model));
    };
  }

  return { explorer, cockpit, render };
})();
