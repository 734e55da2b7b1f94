/**
 * The parts of SDP that an ICE restart needs (RFC 9725, section 4.3; RFC 8840): the fragment to
 * send, and the answer with what the relay's fragment has renewed.
 */

const CREDENTIALS = ['a=ice-ufrag:', 'a=ice-pwd:'];

/** What of a local description the relay is to know of the new ICE session. */
export function fragment(description: string): string {
  const [, media = ''] = description.split(/^(?=m=)/m);
  const lines = media.split(/\r?\n/);
  const wanted = [...CREDENTIALS, 'a=mid:', 'a=candidate:'].flatMap((name) =>
    lines.filter((line) => line.startsWith(name)),
  );
  const own = wanted.filter((line) => CREDENTIALS.some((name) => line.startsWith(name)));
  const rest = wanted.filter((line) => !own.includes(line));
  return [...own, 'm=audio 9 RTP/AVP 0', ...rest, ''].join('\r\n');
}

/** The answer as it was, with the credentials of the relay's fragment. */
export function renewed(answer: string, fragment: string): string {
  const fresh = fragment.split(/\r?\n/);
  const lines = answer.split(/\r?\n/).map((line) => {
    const name = CREDENTIALS.find((credential) => line.startsWith(credential));
    return (name && fresh.find((other) => other.startsWith(name))) ?? line;
  });
  return lines.join('\r\n');
}
