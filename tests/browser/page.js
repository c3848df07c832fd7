// Helpers in the page under test, for what only the page can know: its clock, its pictures, its kernel.

let panel = null;  // the notebook, once it is there
const session = () => panel?.sessionContext?.session;
const cells = () => panel.content.widgets
  .filter(cell => cell.model.type === "code" && cell.model.sharedModel.getSource().trim());

// Is the notebook open and its kernel waiting for work?
function jupyterReady() {
  panel ??= window.jupyterapp?.shell.currentWidget;
  const kernel = session()?.kernel;
  return kernel?.connectionStatus === "connected" && kernel.status === "idle" && cells().length > 0;
}

// Run the cells from the first to the one that ends with a line, or to the last.
let wanted = [];
function runCells(line) {
  const found = cells().findIndex(({model}) => model.sharedModel.getSource().endsWith(`\n${line}`));
  wanted = cells().slice(0, found + 1 || undefined);
  for (const {model} of wanted) model.sharedModel.execution_count = null;
  panel.content.activeCellIndex = panel.content.widgets.indexOf(wanted.at(-1));
  jupyterapp.commands.execute("notebook:run-all-above")
    .then(() => jupyterapp.commands.execute("notebook:run-cell"));
}

function cellsHaveRun() {
  return wanted.every(({model}) => model.executionCount !== null && model.executionState !== "running")
    && session()?.kernel?.status === "idle";
}

// The repr of an expression, computed by the kernel between the messages of its widgets.
async function pythonValue(expression) {
  const options = {code: "", silent: true, user_expressions: {value: expression}};
  const reply = await session().kernel.requestExecute(options).done;
  const {value} = reply.content.user_expressions;
  if (value.status !== "ok") throw new Error(`${expression}: ${value.ename}: ${value.evalue}`);
  return value.data["text/plain"];
}

// An exception in a widget's callback reaches no cell: only those who listen to the kernel see it.
const heard = [];
function listenToKernel() {
  session().iopubMessage.connect((_, {header, content}) => {
    if (header.msg_type === "error") heard.push(content.traceback.join("\n"));
    if (header.msg_type === "stream" && content.text.includes("Traceback")) heard.push(content.text);
  });
}

function kernelErrors() {
  const outputs = cells().flatMap(({model}) => model.outputs.toJSON());
  const shown = outputs.filter(output => output.output_type === "error");
  return [...heard, ...shown.map(output => output.traceback.join("\n"))];
}

// When the user last pressed a key, moved the mouse or clicked.
let acted = 0;
for (const kind of ["keydown", "pointermove", "click"])
  document.addEventListener(kind, () => { acted = performance.now(); }, true);

// When each change of an element had been drawn, and how long after the user's last action that
// was. What changes within a frame is painted at its end, before the browser does anything else.
function watchChanges(element) {
  const watch = {times: [], latencies: []};
  new MutationObserver(async () => {
    const began = acted;
    await new Promise(painted => setTimeout(painted));
    watch.latencies.push(performance.now() - began);
    watch.times.push(performance.now());
  }).observe(element, {childList: true, subtree: true});
  return watch;
}

// How long it takes from the user's next action until an element says something.
function timeToText(element, text) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`"${text}" has not come: ${element.innerText}`)), 30_000);
    const observer = new MutationObserver(() => {
      if (!element.innerText.includes(text)) return;
      observer.disconnect();
      resolve(performance.now() - acted);
    });
    observer.observe(element, {childList: true, subtree: true, characterData: true});
  });
}

// Playwright runs this file inside a function of its own.
Object.assign(window, {
  jupyterReady, runCells, cellsHaveRun, pythonValue, listenToKernel, kernelErrors,
  watchChanges, timeToText,
});
