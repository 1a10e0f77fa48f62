// A worker that ticks evenly even when its page is in the background, where the page's own timers are slowed down.

onmessage = ({ data: everyMs }) => setInterval(() => postMessage(0), everyMs);
