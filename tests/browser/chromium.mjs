// Debian's Chromium with a fake microphone, and a probe in the page that listens to what is heard.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const QUIET_MACHINE = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
];

/**
 * Opens a page. `microphone` is a WAV file, `'refused'` (there is one, and it is not allowed) or
 * `'none'`. The caller closes it.
 */
export async function openPage({
  microphone,
  flags = [],
  size = { width: 1280, height: 800 },
  ...page
}) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'voxline-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.VOXLINE_CHROMIUM ?? '/usr/bin/chromium',
    headless: false, // by flag: Playwright's own headless mode is another program
    ignoreDefaultArgs: ['--mute-audio'],
    args: [...QUIET_MACHINE, ...microphoneFlags(microphone), ...flags],
    viewport: size,
    ...page,
  });
  await context.addInitScript(probe);
  const opened = context.pages()[0] ?? (await context.newPage());
  const close = async () => {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  };
  return { page: opened, context, close };
}

function microphoneFlags(microphone) {
  const device = '--use-fake-device-for-media-stream';
  if (microphone === 'none') return ['--use-fake-ui-for-media-stream'];
  if (microphone === 'refused') return [device, '--deny-permission-prompts'];
  return [
    device,
    '--use-fake-ui-for-media-stream',
    `--use-file-for-fake-audio-capture=${microphone}`,
  ];
}

/**
 * Runs in the page before its own scripts. `window.probe.sound` has the loudness of what reaches
 * the ear, as `{ at, rms }` every 40 ms: of a remote track over WebRTC, and of what is connected
 * to the speaker over WebSocket. `window.probe.marks` has the times of changes of the page.
 */
function probe() {
  const sound = [];
  const marks = [];
  const peers = [];
  const tracks = [];
  const analysers = [];
  window.probe = { sound, marks, peers, tracks };

  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to === this.context.destination) listen(this);
    return connect.call(this, to, ...rest);
  };
  function listen(node) {
    const analyser = node.context.createAnalyser();
    analyser.fftSize = 2048;
    connect.call(node, analyser);
    analysers.push(analyser);
  }

  const { RTCPeerConnection } = window;
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      peers.push(this);
      this.addEventListener('track', ({ track }) => {
        const context = new AudioContext();
        listen(context.createMediaStreamSource(new MediaStream([track])));
      });
    }
  };
  const { mediaDevices } = navigator;
  const getUserMedia = mediaDevices?.getUserMedia.bind(mediaDevices);
  if (mediaDevices) {
    mediaDevices.getUserMedia = async (constraints) => {
      const stream = await getUserMedia(constraints);
      tracks.push(...stream.getTracks());
      return stream;
    };
  }

  const block = new Float32Array(2048);
  setInterval(() => {
    if (analysers.length === 0) return;
    let power = 0;
    for (const analyser of analysers) {
      analyser.getFloatTimeDomainData(block);
      for (const sample of block) power += sample * sample;
    }
    sound.push({ at: performance.now(), rms: Math.sqrt(power / block.length) });
  }, 40);

  addEventListener('DOMContentLoaded', () => {
    const note = () => {
      const state = document.getElementById('state')?.dataset.state;
      const cuts = document.querySelectorAll('.cut').length;
      const last = marks.at(-1);
      if (last?.state !== state || last?.cuts !== cuts) {
        marks.push({ at: performance.now(), state, cuts });
      }
    };
    new MutationObserver(note).observe(document.body, {
      subtree: true,
      childList: true,
      attributes: true,
      attributeFilter: ['data-state'],
    });
  });
}
