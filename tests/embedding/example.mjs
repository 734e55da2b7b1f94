// The code of docs/EMBEDDING.md, as files.

import fs from 'node:fs';
import path from 'node:path';

const DOCUMENT = path.resolve(import.meta.dirname, '../../docs/EMBEDDING.md');
const BLOCK = /^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$/gms;

/** Where the document's relay is. */
const PLAIN = 'http://127.0.0.1:8080';

/** Writes each block into `folder` by its name, with another address of the relay in it. */
export function writeExamples(folder, relay) {
  const document = fs.readFileSync(DOCUMENT, 'utf8');
  const names = [];
  for (const [, name, code] of document.matchAll(BLOCK)) {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, code.replaceAll(PLAIN, relay));
    names.push(name);
  }
  return names;
}
