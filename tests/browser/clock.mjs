// One clock for all that is timed in this process and in a page: CLOCK_MONOTONIC, in milliseconds.
// Chromium stamps the frames of media tracks by it, too.

export function now() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/**
 * What is to be added to a page's `performance.now()`: by the fastest of some exchanges, so it is
 * no further off than half of that.
 */
export async function clockOf(page, exchanges = 30) {
  let best = { trip: Infinity, offset: 0 };
  for (let i = 0; i < exchanges; i++) {
    const before = now();
    const there = await page.evaluate(() => performance.now());
    const trip = now() - before;
    if (trip < best.trip) best = { trip, offset: before + trip / 2 - there };
  }
  return best;
}
