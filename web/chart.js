// Candles, volume and the fan, drawn by Lightweight Charts; colours come from the style sheet.

import { count, day, level, money, price } from "./format.js";

/** The bands as a custom series: one polygon per level, the widest first, so that the middle is darkest. */
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

/** Draws into `node` and writes the values at the pointer into `readout`; null where the library is missing. */
export function drawChart(node, readout, prices, forecast) {
  const library = window.LightweightCharts;
  if (!library) return null;
  const chart = library.createChart(node, {
    autoSize: true,
    localization: { locale: navigator.language, priceFormatter: price },
    rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.08, bottom: 0.2 } },
    timeScale: { borderVisible: false, rightOffset: 1, fixLeftEdge: true, fixRightEdge: true },
    handleScroll: { mouseWheel: false, vertTouchDrag: false }, // the wheel scrolls the page
    handleScale: { mouseWheel: false },
  });
  const quiet = { priceLineVisible: false, lastValueVisible: false };
  const volume = chart.addHistogramSeries({ ...quiet, priceScaleId: "", priceFormat: { type: "volume" } });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
  const view = new Fan("");
  const fan = chart.addCustomSeries(view, quiet);
  const candles = chart.addCandlestickSeries(quiet);
  const persistence = chart.addLineSeries({ ...quiet, lineWidth: 1, lineStyle: 2, crosshairMarkerVisible: false });
  const median = chart.addLineSeries({ ...quiet, lineWidth: 2 });

  const bars = prices.data.filter((bar) => bar.Date <= forecast.base_date);
  const base = forecast.base_price;
  const origin = { date: forecast.base_date, predicted_price: base, intervals: forecast.forecast[0].intervals.map((one) => ({ ...one, lower: base, upper: base })) };
  const points = [origin, ...forecast.forecast];
  candles.setData(bars.map(({ Date, Open, High, Low, Close }) => ({ time: Date, open: Open ?? Close, high: High ?? Close, low: Low ?? Close, close: Close })));
  volume.setData(bars.map((bar) => ({ time: bar.Date, value: bar.Volume })));
  median.setData(points.map((point) => ({ time: point.date, value: point.predicted_price })));
  persistence.setData(points.map((point) => ({ time: point.date, value: forecast.persistence })));
  fan.setData(points.map((point) => ({ time: point.date, median: point.predicted_price, bands: point.intervals.toReversed() })));

  const paint = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    chart.applyOptions({
      layout: { background: { type: "solid", color: colour("--page") }, textColor: colour("--faint"), fontFamily: getComputedStyle(node).fontFamily, fontSize: 12 },
      grid: { vertLines: { visible: false }, horzLines: { color: colour("--hairline") } },
    });
    const [ink, page] = [colour("--candle"), colour("--page")];
    candles.applyOptions({ upColor: page, downColor: ink, borderUpColor: ink, borderDownColor: ink, wickUpColor: ink, wickDownColor: ink });
    volume.applyOptions({ color: colour("--volume") });
    persistence.applyOptions({ color: colour("--ink") });
    median.applyOptions({ color: colour("--accent") });
    view.colour = colour("--band");
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", paint);
  paint();
  chart.timeScale().fitContent();

  const byDate = new Map([...bars.map((bar) => [bar.Date, bar]), ...forecast.forecast.map((point) => [point.date, point])]);
  chart.subscribeCrosshairMove(({ time }) => {
    readout.textContent = byDate.has(time) ? describe(byDate.get(time), forecast.currency) : readout.dataset.rest;
  });
  return () => {
    dark.removeEventListener("change", paint);
    chart.remove();
  };
}

function describe(at, currency) {
  if (at.date) {
    const widths = at.intervals.map((one) => `${level(one.level)} ${price(one.lower)} – ${price(one.upper)}`);
    return `${day(at.date)}  ${money(at.predicted_price, currency)}  ${widths.join("  ")}`;
  }
  return `${day(at.Date)}  open ${price(at.Open)}  high ${price(at.High)}  low ${price(at.Low)}  close ${price(at.Close)}  volume ${count(at.Volume)}`;
}
