// node producer.mjs DOCUMENT URL NAMESPACE SESSION: has a session created, filled and counted, and prints each reply.

import { randomUUID } from 'node:crypto';
import { connect } from './connecting.mjs';
import { Deployment, Document } from './document.mjs';

const PATIENCE = 30_000; // milliseconds

class Producer {
  constructor(client, deployment, sessionId) {
    const partition = deployment.partitionOf(sessionId);
    this.client = client;
    this.document = deployment.document;
    this.stream = deployment.address('commandStream', { partition });
    this.replyTo = deployment.address('replies', { partition, clientId: `node-${process.pid}` });
    this.waiting = new Map();
  }

  hear(payload) {
    const replies = JSON.parse(payload);
    const problems = this.document.problems('replies', 'payload', replies);
    if (problems) throw new Error(`a reply that the document does not describe: ${problems}`);
    for (const reply of replies) this.waiting.get(reply.commandId)?.(reply);
  }

  // Send a command and return its reply; `append` is one of the two ways below.
  async execute(append, type, data, id = randomUUID()) {
    const headers = { id, type, replyTo: this.replyTo, correlationId: 'from-node' };
    const message = this.document.messageOf(type);
    const problems =
      this.document.problems(message, 'headers', headers) ?? this.document.problems(message, 'payload', data);
    if (problems) throw new Error(`the document has no such ${type}: ${problems}`);
    let timer;
    const reply = new Promise((resolve, reject) => {
      this.waiting.set(id, resolve);
      timer = setTimeout(() => reject(new Error(`no reply to ${type} ${id}`)), PATIENCE);
    });
    await append.call(this, headers, JSON.stringify(data));
    try {
      return await reply;
    } finally {
      clearTimeout(timer);
      this.waiting.delete(id);
    }
  }

  async byXadd(headers, data) {
    await this.client.xAdd(this.stream, '*', { ...headers, data });
  }

  async byFunction({ id, type, ...optional }, data) {
    const { function: enqueue } = this.document.content.channels.commandStream['x-enqueue'];
    const others = Object.entries(optional).flat();
    const refused = await this.client.fCall(enqueue, {
      keys: [this.stream],
      arguments: ['1000', id, type, data, String(others.length), ...others],
    });
    if (refused !== -1) throw new Error(`${refused} commands are waiting`);
  }
}

const message = (id, role, text) => ({
  id,
  role,
  content: [{ type: 'text', text }],
  createdAt: new Date().toISOString(),
});

const [path, url, namespace, sessionId] = process.argv.slice(2);
const server = await connect(url);
const deployment = await Deployment.find(server.client, await Document.read(path), namespace);
const producer = new Producer(server.client, deployment, sessionId);
await server.listen([producer.replyTo], (payload) => producer.hear(payload));
const { byXadd, byFunction } = producer;

async function show(...command) {
  console.log(JSON.stringify(await producer.execute(...command)));
}

await show(byXadd, 'create-session', { sessionId, config: { provider: 'openai', model: 'gpt-4' } });
await show(byFunction, 'add-message', { sessionId, message: message('m1', 'user', 'Hello from Node') });
const twice = [byXadd, 'add-messages', {
  sessionId,
  messages: [message('m2', 'assistant', 'Hello'), message('m3', 'user', 'Once only')],
}, randomUUID()];
await show(...twice);
await show(...twice);
await show(byFunction, 'update-token-metrics', { sessionId, promptTokens: 7000, completionTokens: 500 });
await show(byXadd, 'add-message', { sessionId, message: message('m1', 'user', 'Taken') });
await show(byXadd, 'get-session', { sessionId });

await server.close();
