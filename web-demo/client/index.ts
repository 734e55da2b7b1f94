/** voxline's client library: a call to a relay from a browser. See `web-demo/README.md`. */

export { connect, type ConnectOptions } from './connect';
export type { Call, CallEvents } from './call';
export type { Interruption, RelayError, Side, TranscriptLine, TurnLatency } from './conversation';
export type { TokenRenewal } from './credentials';
export { CallError, type FailureKind } from './failure';
export { HOPS, type Hop } from './hops';
export { listMicrophones, type MicrophoneChoice } from './microphone';
export type { ClientEvent, ServerEvent, State } from './protocol';
export type { Reconnection, ReconnectReason, Step, Ways } from './recovery';
export type { TokenSource } from './token-source';
export type { Levels, TransportKind } from './transport';
