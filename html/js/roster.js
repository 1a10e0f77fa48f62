// The members of a room and the tracks on each line, from the server's frames. No side effects.

export class Roster {
  members = new Map();
  // Our own number, and that of the current or last speaker.
  own = null;
  speaker = null;
  // By mid. A line may carry another member's track later.
  tracks = new Map();

  // Handles a frame about the room. Returns ['joined' or 'left', member] if another member came or went, else null.
  take(frame) {
    switch (frame.type) {
      case 'roster':
        this.members = new Map((frame.members ?? []).map((member) => [member.id, member]));
        this.speaker = frame.speaker ?? null;
        return null;
      case 'joined':
        return this.#joined(frame.member);
      case 'left':
        return this.#left(frame.id);
      case 'changed':
        if (frame.member) this.members.set(frame.member.id, frame.member);
        return null;
      case 'speaking':
        this.#update(frame.id, { speaking: frame.speaking === true });
        return null;
      case 'speaker':
        this.speaker = frame.id ?? null;
        return null;
      default:
        return null;
    }
  }

  setTracks(tracks) {
    this.tracks = new Map(tracks.map((track) => [track.mid, track]));
  }

  forgetTracks() {
    this.tracks = new Map();
  }

  get others() {
    return [...this.members.values()].filter(({ id }) => id !== this.own);
  }

  // Whether a line carries media at the moment. It stays with its member's stream while the camera is off.
  isSent({ id, stream, kind }) {
    const member = this.members.get(id);
    return !member?.tracks || member.tracks.some((track) => track.stream === stream && track.kind === kind);
  }

  // The tiles of others: { key, member, stream, label, tracks: { audio, video } }, where a track is a line's entry. Each member has at least one
  // tile, with or without a camera; every other stream, such as a screen, has its own.
  places(lines) {
    const streams = new Map();
    for (const line of lines) {
      if (!streams.has(line.stream)) streams.set(line.stream, { id: line.id, stream: line.stream, label: line.label ?? null, tracks: {} });
      streams.get(line.stream).tracks[line.kind] = line;
    }
    return [...this.others, ...this.#unknown(streams)].flatMap((member) => {
      const own = [...streams.values()].filter(({ id }) => id === member.id);
      const main = own.find(({ label }) => !label) ?? { stream: null, label: null, tracks: {} };
      const place = (one) => ({ ...one, member, key: one === main ? `${member.id}` : `${member.id}/${one.stream}` });
      return [place(main), ...own.filter((one) => one !== main).map(place)];
    });
  }

  // Members that already send but have not been announced yet.
  #unknown(streams) {
    const ids = new Set([...streams.values()].map(({ id }) => id).filter((id) => id !== this.own && !this.members.has(id)));
    return [...ids].map((id) => ({ id, tracks: [] }));
  }

  #joined(member) {
    if (!member) return null;
    const isNews = !this.members.has(member.id) && member.id !== this.own;
    this.members.set(member.id, member);
    return isNews ? ['joined', member] : null;
  }

  #left(id) {
    const member = this.members.get(id);
    this.members.delete(id);
    if (this.speaker === id) this.speaker = null;
    return member ? ['left', member] : null;
  }

  #update(id, change) {
    const member = this.members.get(id);
    if (member) this.members.set(id, { ...member, ...change });
  }
}

// The name to display.
export function nameOf({ id, name, broadcast }) {
  return name?.trim() || (broadcast ? 'Broadcast' : `Guest ${id}`);
}

// Up to two letters of a name.
export function initials(name) {
  const words = name.trim().split(/\s+/u);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0] ?? '').join('').toUpperCase();
}

// Whether a member reports its stream as muted.
export function isMuted(member, stream) {
  const sound = (member.tracks ?? []).filter(({ kind }) => kind === 'audio');
  const one = sound.find((track) => track.stream === stream) ?? sound.find(({ label }) => !label);
  return one?.muted ?? false;
}
