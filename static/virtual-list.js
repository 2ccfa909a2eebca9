// A list of which only what is seen exists, however long it is.

import { h } from "./dom.js";

/** Rows above and below the window that exist already. */
const MARGIN = 6;

/**
 * `create()` makes a row, `show(row, item, index)` fills it. Rows keep their item while it is seen,
 * so focus and clicks stay with what they were meant for.
 */
export class VirtualList {
  constructor({ create, show, key, attributes }) {
    this.create = create;
    this.show = show;
    this.key = key;
    this.items = [];
    this.rows = new Map();
    this.free = [];
    this.body = h("div", { class: "virtual-body", role: "rowgroup" });
    this.element = h("div", { class: "virtual", ...attributes }, this.body);
    this.element.addEventListener("scroll", () => this.render(), { passive: true });
    this.observer = new ResizeObserver(() => { this.height = 0; this.render(); });
    this.observer.observe(this.element);
    this.height = 0;
  }

  close() {
    this.observer.disconnect();
  }

  rowHeight() {
    if (!this.height) {
      const style = getComputedStyle(this.element).getPropertyValue("--row");
      this.height = Number.parseFloat(style) || 48;
    }
    return this.height;
  }

  set(items) {
    this.items = items;
    this.render();
  }

  /** Makes the item at `index` seen. */
  reveal(index) {
    const row = this.rowHeight();
    const top = index * row;
    const { scrollTop } = this.element;
    // What stands above the rows stays there and covers as much.
    const clientHeight = this.element.clientHeight - this.body.offsetTop;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + row > scrollTop + clientHeight) this.element.scrollTop = top + row - clientHeight;
    this.render();
  }

  /** The row that shows the item with this key, if it is seen. */
  rowOf(key) {
    return this.rows.get(key);
  }

  render() {
    const row = this.rowHeight();
    this.body.style.height = `${this.items.length * row}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / row) - MARGIN);
    const count = Math.ceil(this.element.clientHeight / row) + 2 * MARGIN;
    const seen = this.items.slice(first, first + count);
    const keys = new Set(seen.map(this.key));
    for (const [key, element] of this.rows) {
      if (keys.has(key)) continue;
      this.rows.delete(key);
      // Whoever works in a row that goes does not lose their place in the page.
      if (element.contains(document.activeElement)) this.element.focus({ preventScroll: true });
      element.hidden = true;
      this.free.push(element);
    }
    seen.forEach((item, offset) => {
      const key = this.key(item);
      let element = this.rows.get(key);
      if (!element) {
        element = this.free.pop() ?? this.body.appendChild(this.create());
        element.hidden = false;
        this.rows.set(key, element);
      }
      const index = first + offset;
      const transform = `translateY(${index * row}px)`;
      if (element.style.transform !== transform) element.style.transform = transform;
      element.setAttribute("aria-rowindex", index + 2);
      this.show(element, item, index);
    });
  }
}
