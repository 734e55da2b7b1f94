//! The embedded provider behaves as OpenAI's Realtime API does, on a real socket.

mod admission;
mod errors;
mod interruption;
mod items;
mod limits;
mod responses;
mod schema;
mod session;
mod support;
mod turns;
