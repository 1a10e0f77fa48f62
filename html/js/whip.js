// The broadcast page on a server, which publishes by WHIP (RFC 9725).

import { Link } from './link.js';
import { streams } from './session.js';
import { token, tokenForm, useToken } from './token.js';

const stream = streamName();
useToken('publish', stream);
const link = new Link(`whip/${encodeURIComponent(stream)}`, () => sendingPeer(offered()));
if (!onDisk) broadcastPage(link, { streams, token, tokenForm, url: absolute });
