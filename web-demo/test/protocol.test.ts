import { describe, expect, it } from 'vitest';
import { parseEvent } from '../client/protocol';
import page from '../index.html?raw';

describe('parseEvent', () => {
  it('takes a JSON object with a type', () => {
    expect(parseEvent('{"type":"a.b","x":1}')).toEqual({ type: 'a.b', x: 1 });
  });

  it.each(['', 'x', '1', 'null', '[]', '{}', '{"type":1}', new ArrayBuffer(4), undefined])(
    'takes nothing else: %s',
    (data) => {
      expect(parseEvent(data)).toBeNull();
    },
  );
});

describe('index.html', () => {
  it('has the places that the relay fills in', () => {
    expect(page).toContain('<meta name="voxline-key" content="">');
    expect(page).toContain('<meta name="voxline-provider" content="">');
  });

  it('has no script or style of its own, and nothing from elsewhere', () => {
    expect(page).not.toMatch(/<style|style="|\son[a-z]+="|<script(?![^>]*\ssrc="\/)/);
    expect(page).not.toMatch(/(src|href)="(https?:)?\/\//);
  });
});
