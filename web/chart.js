// Candles, volume, the fan, overlays and past forecasts, drawn by Lightweight Charts; colours come from the style sheet.

import { chartLocale, count, day, level, money, percent, price } from "./format.js";
import { t } from "./text.js";

/** The bands as a custom series: one polygon per level, the widest first, so the middle is darkest. */
class Fan {
  constructor(colour) { this.colour = colour; }
  renderer() { return this; }
  update(data) { this.bars = data.bars; }
  priceValueBuilder({ bands, median }) { return [bands[0].lower, bands[0].upper, median]; }
  isWhitespace({ bands }) { return bands === undefined; }
  defaultOptions() { return { lastValueVisible: false, priceLineVisible: false }; }
  draw(target, toY) {
    const bars = this.bars.filter((bar) => !this.isWhitespace(bar.originalData));
    if (bars.length < 2) return;
    target.useBitmapCoordinateSpace(({ context, horizontalPixelRatio: h, verticalPixelRatio: v }) => {
      context.fillStyle = this.colour;
      bars[0].originalData.bands.forEach((_, index) => {
        const corner = (bar, side) => [bar.x * h, toY(bar.originalData.bands[index][side]) * v];
        context.beginPath();
        bars.forEach((bar) => context.lineTo(...corner(bar, "upper")));
        bars.toReversed().forEach((bar) => context.lineTo(...corner(bar, "lower")));
        context.fill();
      });
    });
  }
}

const AVERAGES = [20, 50, 200];
const VOLATILITY_SESSIONS = 20;
const SESSIONS_A_YEAR = 252;
const quiet = { priceLineVisible: false, lastValueVisible: false };
const thin = { ...quiet, lineWidth: 1, crosshairMarkerVisible: false };
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** An empty chart in the page's colours, which follow the colour scheme; null where the library is missing. */
export function newChart(node, options) {
  const library = window.LightweightCharts;
  if (!library) return null;
  const chart = library.createChart(node, {
    autoSize: true,
    localization: { locale: chartLocale, priceFormatter: price },
    rightPriceScale: { borderVisible: false },
    timeScale: { borderVisible: false, rightOffset: 1, fixLeftEdge: true, fixRightEdge: true },
    handleScroll: { mouseWheel: false, vertTouchDrag: false },
    handleScale: { mouseWheel: false },
    ...options,
  });
  // the wheel scrolls the page unless the chart was clicked or Ctrl is down, as when two fingers pinch a touchpad
  let clicked = false;
  node.addEventListener("pointerdown", () => { clicked = true; });
  node.addEventListener("pointerleave", () => { clicked = false; });
  node.addEventListener("wheel", ({ ctrlKey, metaKey }) => chart.applyOptions({ handleScale: { mouseWheel: clicked || ctrlKey || metaKey } }), { capture: true, passive: true });
  const paint = () => chart.applyOptions({
    layout: { background: { type: "solid", color: colour("--page") }, textColor: colour("--faint"), fontFamily: getComputedStyle(node).fontFamily, fontSize: 12 },
    grid: { vertLines: { visible: false }, horzLines: { color: colour("--hairline") } },
  });
  paint();
  return { chart, paint };
}

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Calls `paint` now and when the colour scheme changes; returns what ends it. */
export function whenRecoloured(paint) {
  paint();
  dark.addEventListener("change", paint);
  return () => dark.removeEventListener("change", paint);
}

/** The chart of a forecast, with what the tools call; null as above. */
export function drawChart(node, readout, forecast) {
  const empty = newChart(node, {
    rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.14, bottom: 0.2 } },
    watermark: { visible: forecast.demo, text: t("forecast.demo", { date: day(forecast.base_date) }), fontSize: node.clientWidth < 600 ? 15 : 26, vertAlign: "center" },
  });
  if (!empty) return null;
  const { chart } = empty;
  const volume = chart.addHistogramSeries({ ...quiet, priceScaleId: "", priceFormat: { type: "volume" } });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
  const pastView = new Fan("");
  const past = chart.addCustomSeries(pastView, quiet);
  const view = new Fan("");
  const fan = chart.addCustomSeries(view, quiet);
  const candles = chart.addCandlestickSeries(quiet);
  const persistence = chart.addLineSeries({ ...thin, lineStyle: 2 });
  const median = chart.addLineSeries({ ...quiet, lineWidth: 2 });
  const averages = AVERAGES.map(() => chart.addLineSeries({ ...thin, visible: false }));
  const volatility = chart.addLineSeries({ ...thin, visible: false, priceScaleId: "volatility" });
  volatility.priceScale().applyOptions({ scaleMargins: { top: 0.78, bottom: 0.02 } });

  const base = forecast.base_price;
  const origin = { date: forecast.base_date, predicted_price: base, intervals: forecast.forecast[0].intervals.map((one) => ({ ...one, lower: base, upper: base })) };
  const points = [origin, ...forecast.forecast];
  median.setData(points.map((point) => ({ time: point.date, value: point.predicted_price })));
  persistence.setData(points.map((point) => ({ time: point.date, value: forecast.persistence })));
  fan.setData(points.map((point) => ({ time: point.date, median: point.predicted_price, bands: point.intervals.toReversed() })));

  const ahead = new Map(forecast.forecast.map((point) => [point.date, point]));
  let bars = [], sessions = 63, byDate = new Map(), pastBy = new Map(), outcomes = [];

  const stop = whenRecoloured(() => {
    empty.paint();
    const [ink, page] = [colour("--candle"), colour("--page")];
    candles.applyOptions({ upColor: page, downColor: ink, borderUpColor: ink, borderDownColor: ink, wickUpColor: ink, wickDownColor: ink });
    volume.applyOptions({ color: colour("--volume") });
    persistence.applyOptions({ color: colour("--ink") });
    median.applyOptions({ color: colour("--accent") });
    averages.forEach((line, index) => line.applyOptions({ color: colour(["--orange", "--purple", "--blue"][index]) }));
    volatility.applyOptions({ color: colour("--orange") });
    chart.applyOptions({ watermark: { color: colour("--hairline") } });
    view.colour = colour("--band");
    pastView.colour = colour("--past");
    mark();
  });

  function mark() {
    candles.setMarkers(outcomes.map(({ session, hit }) => ({ time: session, position: hit ? "belowBar" : "aboveBar", shape: hit ? "circle" : "arrowDown", size: hit ? 0.3 : 0.8, color: colour(hit ? "--accent" : "--orange") })));
  }

  const describe = (date, own) => {
    const [point, bar, was] = [ahead.get(date), byDate.get(date), pastBy.get(date)];
    if (point) {
      const widths = point.intervals.map((one) => `${level(one.level)} ${price(one.lower)} – ${price(one.upper)}`);
      return [day(date), money(point.predicted_price, forecast.currency), ...widths].join("  ");
    }
    const values = [[t("bar.open"), bar.Open], [t("bar.high"), bar.High], [t("bar.low"), bar.Low], [t("bar.close"), bar.Close]];
    return [day(date), ...values.map(([name, value]) => `${name} ${price(value)}`), `${t("bar.volume")} ${count(bar.Volume)}`,
      own && volatility.options().visible && `${t("tools.volatility")} ${percent(own.value)}`,
      was && `${level(0.8)} ${price(was.lower)} – ${price(was.upper)}`].filter(Boolean).join("  ");
  };
  const read = ({ time, seriesData }) => { readout.textContent = byDate.has(time) || ahead.has(time) ? describe(time, seriesData.get(volatility)) : ""; };
  chart.subscribeCrosshairMove(read);
  chart.subscribeClick(read); // a tap moves no crosshair

  const controls = {
    setBars(data) {
      bars = data.filter((bar) => bar.Date <= forecast.base_date);
      byDate = new Map(bars.map((bar) => [bar.Date, bar]));
      candles.setData(bars.map(({ Date, Open, High, Low, Close }) => ({ time: Date, open: Open ?? Close, high: High ?? Close, low: Low ?? Close, close: Close })));
      volume.setData(bars.map((bar) => ({ time: bar.Date, value: bar.Volume })));
      controls.setAverages(averages[0].options().visible);
      controls.setVolatility(volatility.options().visible);
      controls.setRange(sessions);
    },
    /** Shows so many sessions before the forecast. */
    setRange(n) {
      sessions = n;
      const to = bars.length + forecast.forecast.length;
      chart.timeScale().setVisibleLogicalRange({ from: Math.max(bars.length - n, 0), to });
    },
    setLog: (on) => candles.priceScale().applyOptions({ mode: on ? 1 : 0 }),
    /** Hidden overlays are not filled. */
    setAverages: (on) => averages.forEach((line, index) => {
      line.applyOptions({ visible: on });
      if (on) line.setData(movingAverage(bars, AVERAGES[index]));
    }),
    setVolatility(on) {
      volatility.applyOptions({ visible: on });
      if (on) volatility.setData(ownVolatility(bars));
    },
    /** Past one-session forecasts {session, median, intervals, lower, upper, hit}; none removes them. */
    setPast(found) {
      outcomes = found;
      pastBy = new Map(found.map((one) => [one.session, one]));
      past.setData(found.map((one) => ({ time: one.session, median: one.median, bands: one.intervals })));
      mark();
    },
    bars: () => bars,
    picture: () => chart.takeScreenshot(),
    remove() {
      stop();
      chart.remove();
    },
  };
  return controls;
}

function movingAverage(bars, n) {
  let sum = 0;
  return bars.flatMap(({ Date, Close }, index) => {
    sum += Close - (bars[index - n]?.Close ?? 0);
    return index >= n - 1 ? [{ time: Date, value: sum / n }] : [];
  });
}

/** The volatility of the last sessions, a year: 0.2 is 20 %. */
function ownVolatility(bars) {
  const returns = bars.slice(1).map(({ Close }, index) => Math.log(Close / bars[index].Close));
  let [sum, squares] = [0, 0];
  return returns.flatMap((one, index) => {
    const left = returns[index - VOLATILITY_SESSIONS] ?? 0;
    sum += one - left;
    squares += one * one - left * left;
    const variance = (squares - (sum * sum) / VOLATILITY_SESSIONS) / (VOLATILITY_SESSIONS - 1);
    return index >= VOLATILITY_SESSIONS - 1 ? [{ time: bars[index + 1].Date, value: Math.sqrt(Math.max(variance, 0) * SESSIONS_A_YEAR) }] : [];
  });
}
