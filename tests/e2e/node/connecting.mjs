// One server or a cluster: the same commands, but channels of a cluster are sharded, each heard from its own node.

import { createClient, createCluster } from 'redis';

const CLUSTER = 'redis+cluster://';

export function connect(url) {
  return url.startsWith(CLUSTER) ? Cluster.connect(url.slice(CLUSTER.length).split(',')) : OneServer.connect(url);
}

class OneServer {
  static async connect(url) {
    const client = await createClient({ url }).connect();
    return new OneServer(client, await client.duplicate().connect());
  }

  // The server of the document's channels.
  name = 'standalone';

  constructor(client, doorbell) {
    this.client = client;
    this.doorbell = doorbell;
  }

  async listen(channels, hear) {
    await this.doorbell.subscribe(channels, hear);
  }

  async ignore(channels) {
    await this.doorbell.unsubscribe(channels);
  }

  async close() {
    await Promise.all([this.client.close(), this.doorbell.close()]);
  }
}

class Cluster {
  static async connect(hosts) {
    const client = createCluster({ rootNodes: hosts.map((host) => ({ url: `redis://${host}` })) });
    await client.connect();
    return new Cluster(client);
  }

  name = 'cluster';

  constructor(client) {
    this.client = client;
  }

  async listen(channels, hear) {
    for (const channel of channels) await this.client.sSubscribe(channel, hear);
  }

  async ignore(channels) {
    for (const channel of channels) await this.client.sUnsubscribe(channel);
  }

  async close() {
    await this.client.close();
  }
}
