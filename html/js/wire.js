// A WebSocket that carries JSON frames.


export class Wire {
  #socket;
  // Frames that arrived while there was no receiver.
  #waiting = [];
  #take = null;
  // Called once when the socket breaks, but not after close().
  onbreak = () => {};

  // Resolves when the socket is open. `path` is relative to the page. Throws a Problem.
  static open(path, limitMs = 5000) {
    return new Promise((resolve, reject) => {
      const url = new URL(path, location.href);
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      const socket = new WebSocket(url);
      const fail = () => {
        clearTimeout(timer);
        socket.onopen = socket.onclose = null;
        socket.close();
        reject(Problem.noServer());
      };
      const timer = setTimeout(fail, limitMs);
      socket.onclose = fail;
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(new Wire(socket));
      };
    });
  }

  constructor(socket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#handle(data);
    socket.onclose = () => {
      this.#take?.(null);
      this.onbreak();
    };
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  // A frame that is sent on a broken socket is lost.
  send(frame) {
    if (this.isOpen) this.#socket.send(JSON.stringify(frame));
  }

  // The next frame. Throws a Problem if none arrives.
  next(limitMs = 10_000) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#take(null), limitMs);
      this.each((frame) => {
        clearTimeout(timer);
        this.#take = null;
        if (frame) resolve(frame);
        else reject(Problem.noServer());
      });
      if (!this.isOpen && this.#take) this.#take(null);
    });
  }

  // Calls `take` for each frame that is waiting or arrives from now on.
  each(take) {
    this.#take = take;
    while (this.#waiting.length && this.#take) this.#take(this.#waiting.shift());
  }

  close() {
    this.#take = null;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #handle(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof frame?.type !== 'string') return;
    if (this.#take) this.#take(frame);
    else this.#waiting.push(frame);
  }
}
