// node vectors.mjs DOCUMENT: prints the tags and partitions that the document's rules give, for its own test vectors
// and for other numbers of partitions.

import { Document, partitionOf, tagOf } from './document.mjs';

const { content } = await Document.read(process.argv[2]);
const { partitions, partitionOf: vectors } = content.info['x-test-vectors'];
const sessions = Object.keys(vectors);

function computed(count) {
  return {
    tags: Array.from({ length: count }, (_, partition) => tagOf(partition, count)),
    partitionOf: Object.fromEntries(sessions.map((id) => [id, partitionOf(id, count)])),
  };
}

console.log(JSON.stringify(Object.fromEntries([1, 2, 16, partitions, 1024].map((count) => [count, computed(count)]))));
