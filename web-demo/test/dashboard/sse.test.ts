import { describe, expect, it } from 'vitest';
import { Parser } from '../../dashboard/sse';

const STREAM =
  '\uFEFF: hello\r\nevent: snapshot\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:b\n\ndata: c\r\r';

const MESSAGES = [
  { event: 'snapshot', data: '{"a":\n1}' },
  { event: 'message', data: 'b' },
  { event: 'message', data: 'c' },
];

describe('Parser', () => {
  it('reads messages, with every kind of line end', () => {
    expect(new Parser().push(STREAM + ':')).toEqual(MESSAGES);
  });

  it('reads the same wherever the stream is cut', () => {
    for (let at = 0; at <= STREAM.length; at++) {
      const parser = new Parser();
      const first = parser.push(STREAM.slice(0, at));
      const then = parser.push(STREAM.slice(at));
      expect([...first, ...then, ...parser.push(':')], `cut at ${at}`).toEqual(MESSAGES);
    }
  });

  it('passes over comments, and events without data', () => {
    expect(new Parser().push(':\n\nevent: x\n\nid: 7\nretry: 1\ndata\n\n')).toEqual([
      { event: 'message', data: '' },
    ]);
  });

  it('holds back what is not complete', () => {
    const parser = new Parser();
    expect(parser.push('data: half')).toEqual([]);
    expect(parser.push(' of it\n')).toEqual([]);
    expect(parser.push('\n')).toEqual([{ event: 'message', data: 'half of it' }]);
  });
});
