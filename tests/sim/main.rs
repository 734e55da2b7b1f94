//! The embedded provider behaves as OpenAI's Realtime API does, on a real socket.

mod support;
mod turns;
