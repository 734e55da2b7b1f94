import { describe, expect, it } from 'vitest';
import { fragment, renewed } from '../client/sdp';

const LINES = [
  'v=0',
  'a=group:BUNDLE 0 1',
  'm=audio 51000 UDP/TLS/RTP/SAVPF 111',
  'a=candidate:1 1 udp 2122260223 192.0.2.1 51000 typ host',
  'a=ice-ufrag:EsAw',
  'a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1',
  'a=mid:0',
  'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
  'a=ice-ufrag:EsAw',
  'a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1',
  'a=mid:1',
  '',
];
const DESCRIPTION = LINES.join('\r\n');

describe('an ICE restart', () => {
  it('tells the relay the credentials and the candidates of the first section', () => {
    expect(fragment(DESCRIPTION).split('\r\n')).toEqual([
      'a=ice-ufrag:EsAw',
      'a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1',
      'm=audio 9 RTP/AVP 0',
      'a=mid:0',
      'a=candidate:1 1 udp 2122260223 192.0.2.1 51000 typ host',
      '',
    ]);
  });

  it('leaves all of the answer as it was but the credentials', () => {
    const answer = renewed(
      DESCRIPTION,
      'a=ice-ufrag:new1\r\na=ice-pwd:new-password-of-22-chars\r\n',
    );
    expect(answer.match(/a=ice-ufrag:new1/g)).toHaveLength(2);
    expect(answer.match(/a=ice-pwd:new-password-of-22-chars/g)).toHaveLength(2);
    expect(answer).not.toContain('EsAw');
    expect(answer.split('\r\n')).toHaveLength(LINES.length);
  });
});
