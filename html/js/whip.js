// The broadcaster's page on a server: it publishes by WHIP (RFC 9725).

import { Link } from './link.js';
import { streams } from './session.js';
import { token, tokenForm, useToken } from './token.js';

const stream = streamName();
useToken('publish', stream);
broadcastPage(new Link(`whip/${encodeURIComponent(stream)}`, () => sendingPeer(offered())), { url: absolute, streams, token, tokenForm });
