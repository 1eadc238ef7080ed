// Which node a connection goes to, and which next: those it was given, and what a drain names.
// Pure: no sockets, no clock.
//
// Invariants: there is always an address, and none that a server has named leads from TLS to
// plain text.

import { drainTargets } from "./protocol.js";

export class Route {
  #nodes;
  /** @type {string[]} The first one is in use, or its turn has come. */
  #targets;
  #random;

  /**
   * @param {string[]} nodes
   * @param {() => number} [random] from 0 to 1
   */
  constructor(nodes, random = Math.random) {
    this.#nodes = [...nodes];
    this.#targets = [...nodes];
    this.#random = random;
  }

  /** The address to connect to, or connected to. */
  get url() {
    return this.#targets[0];
  }

  /**
   * Another node's turn; one where another connection is only if all are.
   * @param {string[]} [taken] where other connections are
   */
  failed(taken = []) {
    const turn = () => this.#targets.push(/** @type {string} */ (this.#targets.shift()));
    for (let left = this.#targets.length; left > 0; left -= 1) {
      turn();
      if (!taken.includes(this.url)) return;
    }
    turn();
  }

  /**
   * The node will not serve, and is asked no more; false if it is the last one.
   * @param {string[]} [taken]
   */
  refused(taken = []) {
    if (this.#targets.length === 1) return false;
    const gone = this.url;
    this.failed(taken);
    const others = (/** @type {string} */ one) => one !== gone;
    this.#targets = this.#targets.filter(others);
    if (this.#nodes.some(others)) this.#nodes = this.#nodes.filter(others);
    return true;
  }

  /**
   * The node is to be left: for one of those that it names, else for another of ours.
   * @param {string[]} to
   * @param {string[]} [taken]
   */
  drained(to, taken = []) {
    const leaving = this.url;
    // All its clients are told the same: each begins at another one.
    const order = [...shuffled(drainTargets(leaving, to), this.#random), ...this.#nodes];
    const free = order.filter((one) => !taken.includes(one) && one !== leaving);
    this.#targets = [...new Set([...free, leaving, ...order])];
  }
}

/**
 * @param {string[]} list
 * @param {() => number} [random] from 0 to 1
 */
export function shuffled(list, random = Math.random) {
  const mixed = [...list];
  for (let left = mixed.length; left > 1; left -= 1) {
    const other = Math.floor(random() * left);
    [mixed[left - 1], mixed[other]] = [mixed[other], mixed[left - 1]];
  }
  return mixed;
}
