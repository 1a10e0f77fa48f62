// Decides whose turn it is to negotiate. The caller applies the decisions to the peer connection.
//
// The server is the impolite side. It refuses an offer of the page that crosses one of its own; the page rolls back, answers the server's
// offer, and offers again. Replies arrive in the order of the offers, so a late refusal of a withdrawn offer cannot be mistaken for one of a
// later offer.

export class Turns {
  // Offers of the page without a reply, oldest first, each with whether it still stands.
  #out = [];
  #answered = 0;
  // Whether there is something to offer.
  wanted = false;

  get offering() {
    return this.#out.at(-1)?.stands ?? false;
  }

  // Whether to make an offer now.
  get due() {
    return this.wanted && !this.offering;
  }

  // An offer was sent.
  offered() {
    this.wanted = false;
    this.#out.push({ stands: true });
  }

  // Our offer was withdrawn and has to be replaced by another.
  withdrawn() {
    const last = this.#out.at(-1);
    if (last) last.stands = false;
    this.wanted = true;
  }

  // The server's offer arrived. Returns 'answer', 'yield' (withdraw ours first), 'repeat' (send the last answer again) or 'ignore'.
  theirOffer(number) {
    if (number !== undefined && number < this.#answered) return 'ignore';
    if (number !== undefined && number === this.#answered) return 'repeat';
    return this.offering ? 'yield' : 'answer';
  }

  // The server's offer was answered.
  answered(number) {
    this.#answered = number ?? this.#answered;
  }

  // The server replied to an offer. Returns 'take' (the answer), 'withdraw' (the refused offer), 'ignore' (a refusal of a withdrawn offer) or
  // 'broken' (the server accepted a withdrawn offer).
  theirReply(isAnswer) {
    const stood = this.#out.shift()?.stands ?? false;
    if (stood) return isAnswer ? 'take' : 'withdraw';
    return isAnswer ? 'broken' : 'ignore';
  }

  // A new socket replaced a broken one, on which no more replies arrive. Returns true if the pending offer has to be sent again.
  resumed() {
    this.#out = this.offering ? [{ stands: true }] : [];
    return this.offering;
  }
}
