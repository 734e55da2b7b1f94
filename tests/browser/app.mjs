// An app of somebody else's: a page on an origin of its own, and the server behind it, which
// holds the relay's key and gets client secrets for the page.

import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const WEB = path.resolve(import.meta.dirname, '../../web-demo');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript' };

/**
 * Serves `pages` (a name and its text each), and at `/voxline/` the client library. `POST /token`
 * answers with a client secret, made of what the page has sent.
 */
export async function startApp({ relay, key, pages }) {
  const library = await buildLibrary();
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://app');
    try {
      if (request.method === 'POST' && pathname === '/token') {
        const wish = await text(request);
        const secret = await mint({ relay, key }, JSON.parse(wish || '{}'));
        return response.setHeader('Content-Type', 'application/json').end(JSON.stringify(secret));
      }
      const type = TYPES[path.extname(pathname)] ?? 'text/plain';
      const name = pathname.slice(1);
      const found = pages[name] ?? fs.readFileSync(path.join(library.folder, path.basename(name)));
      response.setHeader('Content-Type', `${type}; charset=utf-8`).end(found);
    } catch (error) {
      response.writeHead(error.code === 'ENOENT' ? 404 : 502).end(String(error.message));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: async () => {
      library.remove();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Gets a client secret, as an app's server does. */
export async function mint({ relay, key }, body = {}) {
  const answer = await fetch(`${relay}/v1/realtime/client_secrets`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const said = await answer.text();
  if (!answer.ok) throw new Error(`the relay gave no client secret: ${answer.status} ${said}`);
  return JSON.parse(said);
}

/** The library as an app would bundle it: one module, and the audio worklet beside it. */
async function buildLibrary() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-library-'));
  const vite = createRequire(path.join(WEB, 'package.json')).resolve('vite');
  const { build } = await import(pathToFileURL(vite));
  await build({
    root: WEB,
    configFile: false,
    publicDir: false,
    base: './',
    logLevel: 'error',
    build: {
      target: 'es2022',
      outDir: folder,
      assetsDir: '.',
      assetsInlineLimit: 0,
      minify: false,
      rollupOptions: {
        input: path.join(WEB, 'client/index.ts'),
        preserveEntrySignatures: 'strict',
        output: { entryFileNames: 'voxline.js' },
      },
    },
  });
  return { folder, remove: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}
