// Whose turn it is to negotiate. Decisions only: whoever asks does what they say to the peer connection.
//
// The server is the impolite side. An offer of ours that crosses one of its own is refused; we take it back, answer the server's, and
// offer again. Replies come in the order of our offers, so that a late refusal of one that was taken back harms none that came after it.

export class Turns {
  // Our offers that have no reply yet, oldest first; each says whether it still stands.
  #out = [];
  #answered = 0;
  // Whether there is something to offer.
  wanted = false;

  get offering() {
    return this.#out.at(-1)?.stands ?? false;
  }

  // Whether an offer is to be made now.
  get due() {
    return this.wanted && !this.offering;
  }

  // An offer goes out.
  offered() {
    this.wanted = false;
    this.#out.push({ stands: true });
  }

  // Our offer was taken back: another is wanted in its place.
  withdrawn() {
    const last = this.#out.at(-1);
    if (last) last.stands = false;
    this.wanted = true;
  }

  // The server's offer has come. 'answer' it, 'yield' first (take ours back), 'repeat' the answer that it may not have got, or 'ignore'.
  theirOffer(number) {
    if (number !== undefined && number < this.#answered) return 'ignore';
    if (number !== undefined && number === this.#answered) return 'repeat';
    return this.offering ? 'yield' : 'answer';
  }

  // The server's offer has been answered.
  answered(number) {
    this.#answered = number ?? this.#answered;
  }

  // The server has replied to an offer. 'take' the answer, 'withdraw' the offer that it refuses, 'ignore' a refusal of what was taken back,
  // or 'broken': it has taken what we do not know any more.
  theirReply(isAnswer) {
    const stood = this.#out.shift()?.stands ?? false;
    if (stood) return isAnswer ? 'take' : 'withdraw';
    return isAnswer ? 'broken' : 'ignore';
  }

  // Another socket took the place of the one that broke: nothing more comes by that. True when the offer that is out has to be sent again.
  resumed() {
    this.#out = this.offering ? [{ stands: true }] : [];
    return this.offering;
  }
}
