//! The data channels of a call.
//!
//! **Invariant:** at most [`SEND_BUFFER`] bytes of events wait for the client, be it for its
//! channel to open or for the network; more is an overrun.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use webrtc::data_channel::DataChannel;
use webrtc::error::Error;

use crate::client::webrtc::endpoint::{MAX_MESSAGE, SEND_BUFFER};
use crate::client::webrtc::peer::Label;
use crate::core::port::{Fault, Notice, ToClient};
use crate::wire::{realtime, voxline};

/// How often [`Channels::drain`] looks.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// The client does not take its events.
#[derive(Debug)]
pub(crate) struct Overrun;

pub(crate) struct Channels {
    events: Events,
    voxline: Option<Arc<dyn DataChannel>>,
    timing: Option<Arc<dyn DataChannel>>,
    /// The latest `voxline.state`, for a channel that opens after it was news.
    state: Option<String>,
    /// The RTP timestamp at which the timeline begins.
    origin: u32,
}

enum Events {
    /// The client has offered no data channels.
    Declined,
    Waiting {
        messages: VecDeque<String>,
        bytes: usize,
    },
    Open(Arc<dyn DataChannel>),
}

impl Channels {
    pub(crate) fn new(agreed: bool, origin: u32) -> Self {
        let waiting = Events::Waiting {
            messages: VecDeque::new(),
            bytes: 0,
        };
        Self {
            events: if agreed { waiting } else { Events::Declined },
            voxline: None,
            timing: None,
            state: None,
            origin,
        }
    }

    /// Takes a channel that the client has opened, and sends what has waited for it.
    pub(crate) async fn open(
        &mut self,
        label: Label,
        channel: Arc<dyn DataChannel>,
    ) -> Result<(), Overrun> {
        match label {
            Label::Events => {
                let before = std::mem::replace(&mut self.events, Events::Open(channel));
                if let Events::Waiting { messages, .. } = before {
                    for message in messages {
                        self.send_event(message).await?;
                    }
                }
            }
            Label::Voxline => {
                if let Some(state) = &self.state {
                    deliver(&channel, state).await?;
                }
                self.voxline = Some(channel);
            }
            Label::Timing => self.timing = Some(channel),
        }
        Ok(())
    }

    /// Forgets a channel of our own that the client has closed.
    pub(crate) fn close(&mut self, label: Label) {
        match label {
            // Without it there is no call.
            Label::Events => {}
            Label::Voxline => self.voxline = None,
            Label::Timing => self.timing = None,
        }
    }

    /// Sends what the session says, if it is for a data channel.
    pub(crate) async fn send(&mut self, message: &ToClient) -> Result<(), Overrun> {
        let Some(text) = realtime::encode_client(message) else {
            return Ok(());
        };
        let ToClient::Notice(notice) = message else {
            return self.send_event(text).await;
        };
        let text = if let Notice::Session { .. } = notice {
            voxline::with_origin(&text, self.origin)
        } else {
            text
        };
        if let Some(channel) = &self.voxline {
            deliver(channel, &text).await?;
        }
        if matches!(notice, Notice::State(_)) {
            self.state = Some(text);
        }
        Ok(())
    }

    /// Sends `text` on the channel it answers on.
    pub(crate) async fn reply(&mut self, label: Label, text: &str) -> Result<(), Overrun> {
        let channel = match label {
            Label::Events => return self.send_event(text.into()).await,
            Label::Voxline => &self.voxline,
            Label::Timing => &self.timing,
        };
        match channel {
            Some(channel) => deliver(channel, text).await,
            None => Ok(()),
        }
    }

    /// Waits until the client has acknowledged every event.
    pub(crate) async fn drain(&self) {
        let events = match &self.events {
            Events::Open(channel) => Some(channel),
            Events::Declined | Events::Waiting { .. } => None,
        };
        for channel in events.into_iter().chain(&self.voxline) {
            while channel
                .outstanding_bytes()
                .await
                .is_ok_and(|bytes| bytes > 0)
            {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        }
    }

    async fn send_event(&mut self, text: String) -> Result<(), Overrun> {
        match &mut self.events {
            Events::Declined => Ok(()),
            Events::Waiting { messages, bytes } => {
                *bytes += text.len();
                messages.push_back(text);
                if *bytes > SEND_BUFFER {
                    Err(Overrun)
                } else {
                    Ok(())
                }
            }
            Events::Open(channel) => deliver(channel, &text).await,
        }
    }
}

/// Hands `text` to SCTP; if the channel is closed, that is noticed elsewhere.
async fn deliver(channel: &Arc<dyn DataChannel>, text: &str) -> Result<(), Overrun> {
    match channel.try_send_text(text).await {
        Err(Error::ErrSendBufferFull) => Err(Overrun),
        Err(Error::ErrOutboundPacketTooLarge) => {
            tracing::warn!(bytes = text.len(), "Event is too large for a data channel");
            let fault = ToClient::Fault(too_large(text.len()));
            let text = realtime::encode_client(&fault).unwrap_or_default();
            match channel.try_send_text(&text).await {
                Err(Error::ErrSendBufferFull) => Err(Overrun),
                Ok(()) | Err(_) => Ok(()),
            }
        }
        Err(error) => {
            tracing::debug!(%error, "Event not sent");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn too_large(bytes: usize) -> Fault {
    Fault::server(
        "event_too_large",
        format!(
            "An event of {bytes} bytes was dropped: it does not fit into a data channel message \
             (at most {MAX_MESSAGE} bytes, or less if the offer has `a=max-message-size`). Use \
             a WebSocket for events of this size."
        ),
    )
}
