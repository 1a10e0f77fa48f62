// The copy-and-paste section of both pages: offer out, curl command, answer in.

import { curlLine } from './paste.js';
import { Problem } from './problem.js';
import { token } from './token.js';
import { $, absolute, copies, say, sayProblem } from './ui.js';

// Wires the section to a link. `prepare` runs before an offer is made; it returns false when that cannot be done now.
export function pasteBox(link, stream, prepare) {
  const message = $('paste-message');
  $('paste-make').addEventListener('click', async () => {
    if (!(await prepare())) return;
    try {
      show(await link.offer());
      say(message, 'plain');
    } catch (error) {
      sayProblem(message, Problem.from(error));
    }
  });
  $('paste-start').addEventListener('click', async () => {
    say(message, 'plain');
    try {
      if (link.state !== 'offered') throw new Problem('There is no open offer', { hint: 'Create a new offer first.' });
      await link.answer($('paste-answer').value);
    } catch (error) {
      sayProblem(message, Problem.from(error));
    }
  });
  copies($('paste-copy-offer'), () => $('paste-offer').value);
  copies($('paste-copy-command'), () => $('paste-command').value);
  for (const id of ['paste-offer', 'paste-command']) $(id).addEventListener('focus', () => $(id).select());

  function show(offer) {
    $('paste-offer').value = offer;
    $('paste-command').value = curlLine(offer, absolute(`/sdp/${encodeURIComponent(stream)}`), token());
    $('paste-answer').value = '';
    $('paste-make').textContent = 'Create a new offer';
    $('paste-steps').hidden = false;
  }
}
