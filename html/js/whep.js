// The viewer page on a server, which watches by WHEP.

import { follow } from './events.js';
import { Link } from './link.js';
import { chooseLayer, sentLayer, streams } from './session.js';
import { token, tokenForm, trust, useToken } from './token.js';

const stream = streamName();
useToken('watch', stream);
const link = new Link(`whep/${encodeURIComponent(stream)}`, () => receivingPeer(attach), wantStereo);
if (!onDisk) viewerPage(link, { chooseLayer, follow, sentLayer, streams, token, tokenForm, trust, url: absolute });
