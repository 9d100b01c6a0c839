// The parts below the forecast: one module, which the first forecast does not wait for.

export { prepareBacktest } from "./backtest.js";
export { showAccuracy, showAnalysis, whenSeen } from "./evidence.js";
export { showCard, showModels } from "./models.js";
export { prepareTraining } from "./training.js";
export { prepareWatched, showWatched } from "./watch.js";
