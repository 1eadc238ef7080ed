// One chart: the newest minutes of one or two figures, drawn by uPlot in the page's colours.
//
// Not here: what the figures are. A time without a look is a hole in the line.

import { age } from "./figures.js";

/* global uPlot */

/** Seconds that are shown at most, one point each, and at least. */
const SECONDS = 300;
const SECONDS_MIN = 60;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `5k` for `5.00k`, `7.5k` for `7.50k`: an axis has round values. */
const round = (text) => text.replace(/(\.\d*[1-9])0+(?=\D|$)|\.0+(?=\D|$)/, "$1");

export class Chart {
  #box;
  #big;
  #note;
  #series;
  #show;
  #isLogarithmic;
  #data;
  #plot = null;
  #said = "";
  #pointed = null;

  /** `series` are labels, `show` makes a value a text. */
  constructor(id, series, show, { isLogarithmic = false } = {}) {
    this.#box = document.querySelector(`#${id} .plot`);
    this.#big = document.querySelector(`#${id} .big`);
    this.#note = document.querySelector(`#${id} .note`);
    this.#series = series;
    this.#show = show;
    this.#isLogarithmic = isLogarithmic;
    this.#data = [[], ...series.map(() => [])];
    new ResizeObserver(() => this.#resize()).observe(this.#box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Adds a point: seconds since the epoch, and a value or null for each series. */
  add(at, values) {
    this.#data[0].push(at);
    values.forEach((value, index) => this.#data[index + 1].push(value));
    while (this.#data[0][0] < at - SECONDS) this.#data.forEach((column) => column.shift());
    if (this.#plot === null) this.#draw();
    else this.#plot.setData(this.#data);
  }

  /** Says the newest figure, and more about it, which gives way to what is pointed at. */
  say(big, note) {
    this.#big.textContent = big;
    this.#said = note;
    this.#note.textContent = this.#pointed ?? note;
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#box;
    if (width === 0 || height === 0) return;
    if (this.#plot === null) this.#draw();
    else this.#plot.setSize({ width, height });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#box;
    this.#plot?.destroy();
    this.#plot = null;
    // Behind another tab it has no size; it is drawn when it has.
    if (width === 0 || this.#data[0].length === 0) return;
    this.#plot = new uPlot({ width, height, ...this.#options() }, this.#data, this.#box);
  }

  /** The seconds on the left edge: a minute, and up to `SECONDS` as time goes by. */
  #first() {
    const newest = this.#newest();
    return Math.min(newest - SECONDS_MIN, Math.max(newest - SECONDS, this.#data[0][0]));
  }

  #newest() {
    return this.#data[0].at(-1) ?? 0;
  }

  #options() {
    const axis = {
      stroke: colour("--dim"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const ago = (at) => (this.#newest() - at < 1 ? "now" : `−${age((this.#newest() - at) * 1000)}`);
    const times = () => {
      const step = this.#newest() - this.#first() > 150 ? 60 : 15;
      return [4, 3, 2, 1, 0].map((back) => this.#newest() - back * step);
    };
    const colours = [colour("--one"), colour("--two")];
    return {
      padding: [8, 20, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: () => [this.#first(), this.#newest()] },
        y: this.#isLogarithmic ? { distr: 3, range: decades } : { range: fromZero },
      },
      axes: [
        { ...axis, size: 28, gap: 9, grid: { show: false }, splits: times, values: (_, splits) => splits.map(ago) },
        {
          ...axis,
          size: 68,
          gap: 6,
          ...(this.#isLogarithmic ? { splits: (_, __, min, max) => tens(min, max), filter: (_, splits) => splits } : {}),
          values: (_, splits) => splits.map((value) => (value === null ? "" : round(this.#show(value)))),
        },
      ],
      series: [
        {},
        ...this.#series.map((label, index) => ({
          label,
          stroke: colours[index],
          width: 1.75,
          fill: this.#series.length === 1 ? `${colours[0]}1f` : undefined,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(plot) => this.#point(plot.cursor.idx)] },
    };
  }

  #point(index) {
    const values = this.#data.slice(1).map((column) => column[index ?? -1]);
    const texts = this.#series.map((label, at) => `${label} ${values[at] === null ? "–" : this.#show(values[at] ?? 0)}`);
    const isAway = index === null || index === undefined;
    const ago = isAway ? "" : age((this.#newest() - this.#data[0][index]) * 1000);
    this.#pointed = isAway ? null : `${ago} ago: ${texts.join(", ")}`;
    this.#note.textContent = this.#pointed ?? this.#said;
  }
}

const fromZero = (_, min, max) => [0, Math.max(4, (max ?? 0) * 1.12)];

/** Whole powers of ten around what there is. */
function decades(_, min, max) {
  const low = 10 ** Math.floor(Math.log10(min > 0 ? min : 1e5));
  const high = 10 ** Math.ceil(Math.log10(max > 0 ? max : 1e6));
  return [low, Math.max(high, low * 10)];
}

/** The powers of ten from `min` to `max`. */
function tens(min, max) {
  const first = Math.round(Math.log10(min));
  const count = Math.round(Math.log10(max)) - first + 1;
  return Array.from({ length: Math.max(1, count) }, (_, at) => 10 ** (first + at));
}
