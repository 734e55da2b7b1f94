import { defineConfig } from 'vitest/config';

export default defineConfig({
  build: {
    target: 'es2022',
    // Everything is a file of its own, so that `default-src 'self'` is enough for the page.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['index.html', 'dashboard.html'] },
  },
  server: {
    proxy: {
      '/v1': { target: 'http://127.0.0.1:8080', ws: true },
      '/admin': 'http://127.0.0.1:8080',
    },
  },
  test: { include: ['test/**/*.test.ts'] },
});
