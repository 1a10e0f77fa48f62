// The quality of each member's media, from the browser's statistics: 'good', 'poor' or 'none'.

// Reads one peer connection repeatedly.
export class Quality {
  #before = new Map();
  // By key: when something last arrived, and until when poor quality is remembered.
  #kept = new Map();

  constructor(pc) {
    this.pc = pc;
  }

  // `places` are { key, mids }. Resolves with a Map from key to { quality, bitsPerSecond, lossPercent }; 'own' is for what we send.
  async read(places, now = Date.now()) {
    const report = [...(await this.pc.getStats()).values()];
    const after = new Map(report.filter(({ type }) => READ.includes(type)).map((one) => [one.id, one]));
    const changes = [...after.values()].map((one) => change(one, this.#before.get(one.id)));
    this.#before = after;
    const found = new Map();
    for (const { key, mids } of places) {
      const own = changes.filter(({ type, mid }) => type === 'inbound-rtp' && mids.includes(mid));
      if (own.length) found.set(key, this.#judge(key, total(own), now));
    }
    const sent = changes.filter(({ type }) => type !== 'inbound-rtp');
    if (sent.some(({ type }) => type === 'outbound-rtp')) found.set('own', this.#judge('own', total(sent), now));
    for (const key of this.#kept.keys()) if (!found.has(key)) this.#kept.delete(key);
    return found;
  }

  #judge(key, sum, now) {
    const kept = this.#kept.get(key) ?? { cameAt: now, poorUntil: 0 };
    this.#kept.set(key, kept);
    if (sum.packets > 0) kept.cameAt = now;
    if (isPoor(sum)) kept.poorUntil = now + REMEMBERED_MS;
    return { ...sum, quality: judge(kept, now) };
  }
}

// The changes between two readings of one line.
export function change(now, before = null) {
  const since = (name) => (before ? Math.max(0, (now[name] ?? 0) - (before[name] ?? 0)) : 0);
  const seconds = before ? (now.timestamp - before.timestamp) / 1000 : 0;
  return {
    type: now.type,
    mid: now.mid,
    packets: before ? since('packetsReceived') + since('packetsSent') : (now.packetsReceived ?? now.packetsSent ?? 0),
    lost: since('packetsLost'),
    freezes: since('freezeCount'),
    bitsPerSecond: seconds > 0 ? ((since('bytesReceived') + since('bytesSent')) * 8) / seconds : 0,
    // The loss of our media, as reported by the server.
    fractionLost: now.type === 'remote-inbound-rtp' ? (now.fractionLost ?? 0) : 0,
    isHeldBack: now.qualityLimitationReason === 'bandwidth',
  };
}

// The sum over all lines of one place.
export function total(changes) {
  const sum = (name) => changes.reduce((all, one) => all + one[name], 0);
  const [packets, lost] = [sum('packets'), sum('lost')];
  const reported = Math.max(0, ...changes.map(({ fractionLost }) => fractionLost)) * 100;
  return {
    packets,
    freezes: sum('freezes'),
    bitsPerSecond: sum('bitsPerSecond'),
    lossPercent: Math.max(reported, lost > 0 ? (100 * lost) / (lost + packets) : 0),
    isHeldBack: changes.some(({ isHeldBack }) => isHeldBack),
  };
}

export function isPoor({ lossPercent, freezes, isHeldBack }) {
  return lossPercent > LOSS_PERCENT_MAX || freezes > 0 || isHeldBack;
}

export function judge({ cameAt, poorUntil }, now) {
  if (now - cameAt > NONE_MS) return 'none';
  return now < poorUntil ? 'poor' : 'good';
}

const READ = ['inbound-rtp', 'outbound-rtp', 'remote-inbound-rtp'];
// More than retransmission hides.
const LOSS_PERCENT_MAX = 5;
// Sound alone arrives 50 times a second.
const NONE_MS = 3000;
const REMEMBERED_MS = 5000;
