// node validate.mjs DOCUMENT…: prints what AsyncAPI's own parser, and the document's schemas about its examples, find
// wrong: a line each, with the document's name in front.

import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { Parser } from '@asyncapi/parser';
import { Document } from './document.mjs';

const WARNING = 1;

async function* problemsOf(path) {
  const { diagnostics } = await new Parser().parse(await readFile(path, 'utf8'));
  for (const { severity, code, message, path: where } of diagnostics) {
    if (severity <= WARNING) yield `${code}: ${message} (${where.join('/')})`;
  }
  const document = await Document.read(path);
  for (const [name, { examples }] of Object.entries(document.content.components.messages)) {
    for (const example of examples) {
      for (const part of ['headers', 'payload'].filter((each) => each in example)) {
        const problems = document.problems(name, part, example[part]);
        if (problems) yield `${name}, example ${example.name}, ${part}: ${problems}`;
      }
    }
  }
}

for (const path of process.argv.slice(2)) {
  for await (const problem of problemsOf(path)) console.log(`${basename(path)}: ${problem}`);
}
