import { CallError, fromMedia } from './failure';

/** `false`: none, the person types. A stream stays the caller's: closing does not stop it. */
export type MicrophoneChoice = boolean | { readonly deviceId: string } | MediaStream;

export interface Microphone {
  /** `null` when the call has no microphone. */
  readonly stream: MediaStream | null;
  release(): void;
}

const CLEAN: MediaTrackConstraints = {
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
  channelCount: 1,
};

export async function openMicrophone(choice: MicrophoneChoice): Promise<Microphone> {
  if (choice === false) return { stream: null, release: () => {} };
  if (choice instanceof MediaStream) return { stream: choice, release: () => {} };
  const audio =
    choice === true || choice.deviceId === ''
      ? CLEAN
      : { ...CLEAN, deviceId: { exact: choice.deviceId } };
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw fromMedia(error);
  }
  return { stream, release: () => stream.getTracks().forEach((track) => track.stop()) };
}

/** The microphones that the browser knows. It names them only once it was allowed to use one. */
export async function listMicrophones(): Promise<MediaDeviceInfo[]> {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === 'audioinput' && device.deviceId !== '');
}

/** Refuses early, and with the reason, what could only fail later. */
export function checkBrowser(): void {
  if (!window.isSecureContext) {
    throw new CallError('insecure-context', `${location.origin} is not a secure context`);
  }
  if (!('audioWorklet' in AudioContext.prototype)) {
    throw new CallError('unsupported', 'this browser has no AudioWorklet');
  }
}
