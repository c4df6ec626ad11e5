// node subscriber.mjs DOCUMENT URL NAMESPACE [SESSION]: prints every event, of all sessions or of one, none missed.
//
// It is told on standard input to be `deaf` (as if the connection were lost), to `listen` again, and to `check` the
// head of the stream, and prints each of these words when it is done.

import { createInterface } from 'node:readline';
import { connect } from './connecting.mjs';
import { Deployment, Document } from './document.mjs';

class Subscriber {
  constructor(server, deployment, sessionId) {
    this.server = server;
    this.client = server.client;
    this.deployment = deployment;
    this.sessionId = sessionId;
    this.positions = new Map(); // partition → { generation, sequence }
    this.done = Promise.resolve();
  }

  get channels() {
    if (this.server.name === 'cluster') {
      return [...this.partitions].map((partition) => this.deployment.address('liveEvents', { partition }));
    }
    if (this.sessionId) return [this.deployment.address('sessionEvents', { sessionId: this.sessionId })];
    return this.deployment.document.typeChannels.map((channel) => this.deployment.address(channel));
  }

  get partitions() {
    if (this.sessionId) return [this.deployment.partitionOf(this.sessionId)];
    return this.deployment.tags.keys();
  }

  async open() {
    for (const partition of this.partitions) this.positions.set(partition, await this.head(partition));
    await this.listen();
    await this.check();
  }

  async listen() {
    await this.server.listen(this.channels, (payload) => this.inTurn(() => this.ring(JSON.parse(payload))));
  }

  async deaf() {
    await this.server.ignore(this.channels);
  }

  // Read each stream from the position up to its head: the last doorbell may have been lost.
  async check() {
    await this.inTurn(async () => {
      for (const partition of this.partitions) await this.fill(partition, (await this.head(partition)).sequence);
    });
  }

  async head(partition) {
    const fields = ['generation', 'sequence', 'stable'];
    const [generation, sequence, stable] = await this.client.hmGet(this.deployment.partitionKey(partition), fields);
    return { generation, sequence: Number(stable ?? sequence ?? 0) };
  }

  // Events are taken one after the other, also while a gap is filled.
  inTurn(work) {
    this.done = this.done.then(work).catch((error) => {
      console.error(error);
      process.exit(1);
    });
    return this.done;
  }

  async ring(event) {
    if (!this.wants(event)) return;
    const position = this.positions.get(event.partition);
    position.generation ??= event.generation;
    if (event.generation !== position.generation) throw new Error('the history is another one: read the state again');
    if (event.sequence <= position.sequence) return;
    const previous = this.sessionId ? event.previousOfSession : event.sequence - 1;
    // The first event of a session does not tell whether one of the same id ended unheard.
    if (previous > position.sequence || previous === 0) await this.fill(event.partition, event.sequence - 1);
    this.take('live', event);
  }

  async fill(partition, last) {
    const position = this.positions.get(partition);
    if (last <= position.sequence) return;
    const stream = this.deployment.address('eventStream', { partition });
    const entries = await this.client.xRange(stream, `${position.sequence + 1}-0`, `${last}-0`);
    if (entries[0]?.id !== `${position.sequence + 1}-0`) throw new Error('retention has taken events');
    for (const { id, message } of entries) {
      const event = JSON.parse(message.event);
      if (id !== `${event.sequence}-0`) throw new Error(`the entry ${id} holds the event ${event.sequence}`);
      this.take('stream', event);
    }
  }

  // The channel of a partition, and its stream, carry the events of other sessions, too.
  wants(event) {
    return !this.sessionId || event.sessionId === this.sessionId;
  }

  take(source, event) {
    const position = this.positions.get(event.partition);
    position.generation = event.generation;
    position.sequence = event.sequence;
    if (!this.wants(event)) return;
    const { document } = this.deployment;
    const problems = document.problems(document.messageOf(event.type), 'payload', event);
    if (problems) throw new Error(`an event that the document does not describe: ${problems}`);
    console.log(JSON.stringify({ source, event }));
  }
}

const [path, url, namespace, sessionId] = process.argv.slice(2);
const server = await connect(url);
const deployment = await Deployment.find(server.client, await Document.read(path), namespace);
const subscriber = new Subscriber(server, deployment, sessionId);
await subscriber.open();
console.log('listening');

for await (const word of createInterface({ input: process.stdin })) {
  await subscriber[word]();
  console.log(word);
}
process.exit(0);
