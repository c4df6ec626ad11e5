// What asyncapi.json says of keys, partitions and messages; nothing here is taken from the Python code.

import { readFile } from 'node:fs/promises';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';

export class Document {
  static async read(path) {
    return new Document(JSON.parse(await readFile(path, 'utf8')));
  }

  constructor(content) {
    this.content = content;
    // The document is no schema itself, but holds some, which refer to each other.
    this.ajv = new Ajv({ strict: false, allErrors: true });
    addFormats.default(this.ajv);
    this.ajv.addSchema(content, 'document');
    this.validators = new Map();
  }

  address(channel, parameters) {
    const { address } = this.content.channels[channel];
    return address.replace(/\{(\w+)\}/g, (_, name) => parameters[name]);
  }

  // Return what is wrong with a part of a message (its headers or its payload), or null.
  problems(message, part, value) {
    const where = `document#/components/messages/${message}/${part}`;
    if (!this.validators.has(where)) this.validators.set(where, this.ajv.compile({ $ref: where }));
    const valid = this.validators.get(where);
    return valid(value) ? null : this.ajv.errorsText(valid.errors);
  }

  messageOf(type) {
    const [name] = Object.entries(this.content.components.messages).find(([, message]) => message.name === type);
    return name;
  }

  // Return the names of the channels that carry events of one type each.
  get typeChannels() {
    const channels = Object.entries(this.content.channels);
    return channels.filter(([, { address }]) => /^\{namespace\}:events:[a-z-]+$/.test(address)).map(([name]) => name);
  }
}

// CRC16-XMODEM: polynomial 0x1021, start 0, neither reflected nor inverted.
export function crc16(text) {
  let crc = 0;
  for (const byte of Buffer.from(text, 'utf8')) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc;
}

export function partitionOf(sessionId, partitions) {
  return Math.floor(((crc16(sessionId) % 4096) * partitions) / 4096);
}

export function tagOf(partition, partitions) {
  for (let salt = 0; ; salt++) {
    const tag = `1.${partitions}.${partition}.${salt}`;
    if (Math.floor(((crc16(tag) % 16384) * partitions) / 16384) === partition) return `{${tag}}`;
  }
}

export class Deployment {
  static async find(client, document, namespace) {
    const made = await client.get(`${namespace}:layout`);
    if (made === null) throw new Error(`nobody has made the deployment ${namespace} yet`);
    const [partitions, layout] = made.split(' ').map(Number);
    if (layout !== 2) throw new Error(`this is written for layout 2, not ${layout}`);
    return new Deployment(document, namespace, partitions);
  }

  constructor(document, namespace, partitions) {
    this.document = document;
    this.namespace = namespace;
    this.partitions = partitions;
    this.tags = Array.from({ length: partitions }, (_, partition) => tagOf(partition, partitions));
  }

  partitionOf(sessionId) {
    return partitionOf(sessionId, this.partitions);
  }

  // Return a key or channel; `partition` may be left out where the address has no tag.
  address(channel, { partition, ...parameters } = {}) {
    return this.document.address(channel, { namespace: this.namespace, tag: this.tags[partition], ...parameters });
  }

  partitionKey(partition) {
    return `${this.namespace}:partition:${this.tags[partition]}`;
  }
}
